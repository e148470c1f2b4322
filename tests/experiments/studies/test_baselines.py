import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import accuracy_score, f1_score, log_loss, mean_squared_error, roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from datamodules.configs.table import TableConfig
from datamodules.table import TableDataModule
from experiments.config.baselines import (
    BagOfWordsConfig,
    GridSearchConfig,
    KNearestNeighborsConfig,
    LinearRegressionConfig,
    LogisticRegressionConfig,
    MajorityClassConfig,
    MeanTargetConfig,
)
from experiments.errors import UserError
from experiments.studies.baselines import run_baseline
from experiments.training.confusion import read_confusion
from experiments.training.curve_file import read_curves


class Splits:
    """Three splits, as a datamodule gives them."""

    def __init__(self, **splits: tuple[Tensor, Tensor]) -> None:
        self.splits = splits

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        return self.splits[name]


@pytest.fixture
def images() -> Splits:
    """Noisy uint8 images of three classes that differ in which row is bright."""
    generator = torch.Generator().manual_seed(0)

    def draw(size: int) -> tuple[Tensor, Tensor]:
        targets = torch.randint(3, (size,), generator=generator)
        pixels = torch.randint(0, 160, (size, 1, 3, 4), generator=generator, dtype=torch.uint8)
        pixels[torch.arange(size), 0, targets] += 80
        return pixels, targets

    return Splits(train=draw(120), val=draw(40), test=draw(50))


CONFIGS = [
    LogisticRegressionConfig(),
    LinearRegressionConfig(),
    KNearestNeighborsConfig(),
    MajorityClassConfig(),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_every_baseline_gives_the_same_kind_of_metrics(images: Splits, config: object) -> None:
    metrics = run_baseline(config, images, seed=0)
    assert {"val/accuracy", "test/accuracy", "fit_seconds", "parameters"} <= metrics.keys()
    assert all(type(value) is float for value in metrics.values())
    repeated = run_baseline(config, images, seed=0)
    assert {**repeated, "fit_seconds": 0} == {**metrics, "fit_seconds": 0}


def test_the_confusion_matrix_of_the_test_split_is_written(images: Splits, tmp_path: Path) -> None:
    class Named(Splits):
        info = SimpleNamespace(class_names=("a", "b", "c"))

    data = Named(**images.splits)
    metrics = run_baseline(LogisticRegressionConfig(), data, seed=0, records_to=tmp_path)
    table = read_confusion(tmp_path)
    assert table is not None
    assert table.class_names == ("a", "b", "c")
    targets = images.split("test")[1]
    assert [sum(row) for row in table.counts] == torch.bincount(targets).tolist()
    right = sum(table.counts[i][i] for i in range(3))
    assert right / len(targets) == pytest.approx(metrics["test/accuracy"])


def test_majority_class_is_counted(images: Splits) -> None:
    train, test = images.split("train")[1], images.split("test")[1]
    metrics = run_baseline(MajorityClassConfig(), images, seed=0)
    counts = torch.bincount(train, minlength=3)
    assert metrics["test/accuracy"] == pytest.approx((test == counts.argmax()).float().mean().item())
    prior = (counts / counts.sum()).log()
    assert metrics["test/loss"] == pytest.approx(-prior[test].mean().item(), rel=1e-5)
    assert metrics["parameters"] == 3


def test_linear_regression_is_the_ridge_in_closed_form(images: Splits) -> None:
    """Against the normal equations on centred data, and against scikit-learn's ridge on ±1."""
    (inputs, targets), (test_inputs, test_targets) = images.split("train"), images.split("test")
    rows, test_rows = inputs.flatten(1).double() / 255, test_inputs.flatten(1).double() / 255
    one_hot = torch.nn.functional.one_hot(targets).double()
    centred = rows - rows.mean(0)
    gram = centred.T @ centred + 10.0 * torch.eye(12, dtype=torch.float64)
    weight = torch.linalg.solve(gram, centred.T @ (one_hot - one_hot.mean(0)))
    predicted = ((test_rows - rows.mean(0)) @ weight + one_hot.mean(0)).argmax(1)
    metrics = run_baseline(LinearRegressionConfig(penalty=10.0), images, seed=0)
    assert metrics["test/accuracy"] == pytest.approx((predicted == test_targets).double().mean().item())
    peer = RidgeClassifier(alpha=10.0).fit(rows.numpy(), targets.numpy())
    assert metrics["test/accuracy"] == pytest.approx(peer.score(test_rows.numpy(), test_targets.numpy()))
    assert metrics["parameters"] == 12 * 3 + 3


def test_linear_regression_of_real_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

    def draw(size: int) -> tuple[Tensor, Tensor]:
        inputs = torch.randn(size, 3, generator=generator, dtype=torch.float64)
        return inputs, inputs @ weight + 3

    data = Splits(train=draw(60), val=draw(20), test=draw(20))
    metrics = run_baseline(LinearRegressionConfig(penalty=1e-8), data, seed=0)
    assert metrics["test/loss"] == pytest.approx(0, abs=1e-12)
    assert metrics["val/r2"] == pytest.approx(1)
    assert "test/accuracy" not in metrics
    with pytest.raises(
        UserError, match="LogisticRegressionConfig predicts classes, but the targets are float64"
    ):
        run_baseline(LogisticRegressionConfig(), data, seed=0)


@pytest.fixture
def vectors() -> Splits:
    """Real vectors of four values, one training target in ten zero, that a linear map explains in part."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, generator=generator)

    def draw(size: int) -> tuple[Tensor, Tensor]:
        inputs = torch.randn(size, 3, generator=generator)
        targets = inputs @ weight * torch.tensor([1.0, 5.0, 0.2, 1.0]) + 2
        targets = targets + 0.5 * torch.randn(size, 4, generator=generator)
        targets[::10] = 0
        return inputs, targets

    return Splits(train=draw(60), val=draw(20), test=draw(30))


def test_ridge_on_vectors_is_that_of_each_entry_alone(vectors: Splits) -> None:
    metrics = run_baseline(LinearRegressionConfig(penalty=2.0), vectors, seed=0)
    (inputs, targets), (test_inputs, test_targets) = (
        tuple(part.numpy() for part in vectors.split(name)) for name in ("train", "test")
    )
    entries = [Ridge(alpha=2.0).fit(inputs, target).predict(test_inputs) for target in targets.T]
    predicted = np.stack(entries, axis=1)
    assert metrics["test/loss"] == pytest.approx(mean_squared_error(test_targets, predicted), rel=1e-5)
    spread = ((test_targets - test_targets.mean(0)) ** 2).sum()
    assert metrics["test/r2"] == pytest.approx(1 - ((test_targets - predicted) ** 2).sum() / spread, rel=1e-5)
    cosines = cosine_similarity(test_targets, predicted).diagonal()
    assert metrics["test/cosine"] == pytest.approx(cosines[test_targets.any(axis=1)].mean(), rel=1e-5)
    assert metrics["parameters"] == 3 * 4 + 4


def test_the_mean_target_explains_nothing(vectors: Splits) -> None:
    train = Splits(**dict.fromkeys(("train", "val", "test"), vectors.split("train")))
    metrics = run_baseline(MeanTargetConfig(), train, seed=0)
    targets = vectors.split("train")[1].double()
    assert metrics["test/loss"] == pytest.approx(targets.var(0, correction=0).mean().item(), rel=1e-5)
    assert metrics["test/r2"] == pytest.approx(0, abs=1e-6)
    assert metrics["parameters"] == 4
    assert all(type(value) is float for value in metrics.values())


def test_the_mean_target_is_for_real_targets(images: Splits) -> None:
    with pytest.raises(UserError, match=r"mean_target predicts real numbers.*use majority_class"):
        run_baseline(MeanTargetConfig(), images, seed=0)


def test_logistic_regression_says_whether_it_converged(images: Splits) -> None:
    assert run_baseline(LogisticRegressionConfig(max_iterations=500), images, seed=0)["converged"] == 1
    assert run_baseline(LogisticRegressionConfig(max_iterations=2), images, seed=0)["converged"] == 0


def test_a_weaker_penalty_fits_the_training_set_better(images: Splits) -> None:
    """As at any optimum; and even the strongest beats not looking at the image."""
    train = Splits(**dict.fromkeys(("train", "val", "test"), images.split("train")))
    losses = [
        run_baseline(LogisticRegressionConfig(inverse_penalty=c, max_iterations=2000), train, seed=0)[
            "val/loss"
        ]
        for c in (0.01, 0.1, 1.0, 10.0)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] < np.log(3)


def test_nearest_neighbour_knows_its_own_training_set(images: Splits) -> None:
    train = Splits(**dict.fromkeys(("train", "val", "test"), images.split("train")))
    assert run_baseline(KNearestNeighborsConfig(neighbors=1), train, seed=0)["test/accuracy"] == 1
    with pytest.raises(UserError, match="neighbors: 121 is more than the 120 training samples"):
        run_baseline(KNearestNeighborsConfig(neighbors=121), train, seed=0)


WORDS = [["sword", "king", "crown"], ["jest", "love", "fool"], ["blood", "murder", "o"]]


class Texts(Splits):
    """Labelled texts, half of whose words are their class's; the tokens beside them say nothing."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.of: dict[str, list[str]] = {}
        splits = {}
        for name, size in (("train", 90), ("val", 30), ("test", 40)):
            targets = torch.arange(size) % 3
            words = [
                [
                    generator.choice(WORDS[int(t)] if generator.random() < 0.3 else ["the", "and", "I'll"])
                    for _ in range(8)
                ]
                for t in targets
            ]
            self.of[name] = [" ".join(row) for row in words]
            splits[name] = torch.zeros(size, 8, dtype=torch.int64), targets
        super().__init__(**splits)

    def texts(self, name: str) -> list[str]:
        return self.of[name]


def test_a_bag_of_words_is_scikit_learns_on_the_very_texts() -> None:
    """Weights written out from their formula, then scikit-learn's regression and scores."""
    data = Texts()
    vocabulary = sorted({word for text in data.texts("train") for word in text.split()})
    assert "I'll" in vocabulary
    assert "o" in vocabulary
    documents = [text.split() for text in data.texts("train")]
    seen_in = {word: sum(word in document for document in documents) for word in vocabulary}

    def weigh(texts: list[str]) -> np.ndarray:
        rows = np.zeros((len(texts), len(vocabulary)))
        for row, text in zip(rows, texts, strict=True):
            for place, word in enumerate(vocabulary):
                if count := text.split().count(word):
                    rarity = 1 + np.log((1 + len(documents)) / (1 + seen_in[word]))
                    row[place] = (1 + np.log(count)) * rarity
            row /= np.linalg.norm(row)
        return rows

    train, test = data.split("train")[1].numpy(), data.split("test")[1].numpy()
    peer = LogisticRegression(C=2.0, max_iter=300).fit(weigh(data.texts("train")), train)
    scores = peer.predict_proba(weigh(data.texts("test")))
    metrics = run_baseline(BagOfWordsConfig(inverse_penalty=2.0, max_iterations=300), data, seed=0)
    assert metrics["test/accuracy"] == pytest.approx(accuracy_score(test, scores.argmax(1)))
    assert metrics["test/loss"] == pytest.approx(log_loss(test, scores), rel=1e-3)
    assert metrics["test/macro_f1"] == pytest.approx(f1_score(test, scores.argmax(1), average="macro"))
    assert metrics["test/auc"] == pytest.approx(roc_auc_score(test, scores, multi_class="ovr"), abs=1e-3)
    assert metrics["parameters"] == len(vocabulary) * 4 + 3
    assert metrics["converged"] == 1
    assert metrics["test/macro_f1"] > 0.8


def test_guessing_texts_ranks_nothing() -> None:
    metrics = run_baseline(MajorityClassConfig(), Texts(), seed=0)
    assert metrics["val/auc"] == 0.5
    assert metrics["val/macro_f1"] == pytest.approx((0.5 + 0 + 0) / 3)  # precision ⅓ and recall 1 of one


def test_words_and_numbers_are_not_taken_for_each_other(images: Splits) -> None:
    with pytest.raises(UserError, match="bag_of_words needs texts, but the data has none"):
        run_baseline(BagOfWordsConfig(), images, seed=0)
    for config in (LogisticRegressionConfig(), KNearestNeighborsConfig(), LinearRegressionConfig()):
        with pytest.raises(UserError, match="needs numbers, but the data is texts; use bag_of_words"):
            run_baseline(config, Texts(), seed=0)


def test_images_are_not_scored_as_texts(images: Splits) -> None:
    assert not [name for name in run_baseline(LogisticRegressionConfig(), images, seed=0) if "auc" in name]


@pytest.mark.network
@pytest.mark.slow
def test_a_bag_of_words_sees_the_passages_that_the_encoder_reads() -> None:
    from datamodules.configs.play_passages import PlayPassagesConfig
    from datamodules.configs.token_corpus import TokenizerConfig
    from datamodules.play_passages import PlayPassagesDataModule

    root = str(Path(__file__).parents[3] / "data")
    data = PlayPassagesDataModule(
        PlayPassagesConfig(root=root, passage_words=400, tokenizer=TokenizerConfig(kind="character"))
    )
    seen: dict[str, list[str]] = {}

    class Watched:
        def split(self, name: str) -> tuple[Tensor, Tensor]:
            return data.split(name)

        def texts(self, name: str) -> list[str]:
            seen[name] = data.texts(name)
            return seen[name]

    metrics = run_baseline(BagOfWordsConfig(inverse_penalty=30.0), Watched(), seed=0)
    for name in ("train", "val", "test"):
        tokens = data.split(name)[0]
        assert seen[name] == [data.tokenizer.decode(row[row >= 0].tolist()) for row in tokens]
    assert metrics["test/macro_f1"] > 0.5
    assert metrics["test/auc"] > 0.75


def test_on_real_digits() -> None:
    """Nearest neighbours and logistic regression are known to tell scikit-learn's digits apart well."""
    from datamodules.configs.mnist import DigitsConfig
    from datamodules.mnist import DigitsDataModule

    data = DigitsDataModule(DigitsConfig())
    data.setup()
    assert run_baseline(KNearestNeighborsConfig(), data, seed=0)["test/accuracy"] > 0.97
    assert run_baseline(LogisticRegressionConfig(), data, seed=0)["test/accuracy"] > 0.93
    assert run_baseline(LinearRegressionConfig(), data, seed=0)["test/accuracy"] > 0.88
    assert run_baseline(MajorityClassConfig(), data, seed=0)["test/accuracy"] < 0.15


def test_schemas_import_neither_torch_nor_scikit_learn() -> None:
    code = "import experiments.config.baselines, sys; print({'torch', 'sklearn'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_table_of_classes_is_scored_by_area_too() -> None:
    data = TableDataModule(TableConfig(path="breast_cancer"))
    metrics = run_baseline(LogisticRegressionConfig(), data, seed=0)
    (inputs, targets), (test_inputs, test_targets) = data.split("train"), data.split("test")
    theirs = LogisticRegression(max_iter=100).fit(inputs.numpy(), targets.numpy())
    area = roc_auc_score(test_targets, theirs.predict_proba(test_inputs.numpy())[:, 1])
    assert metrics["test/auc"] == pytest.approx(area)
    assert "test/auc" not in run_baseline(LinearRegressionConfig(), data, seed=0)


def test_one_real_target_has_no_cosine() -> None:
    data = TableDataModule(TableConfig(path="diabetes"))
    metrics = run_baseline(LinearRegressionConfig(), data, seed=0)
    assert "test/cosine" not in metrics
    inputs, targets = (part.numpy() for part in data.split("train"))
    test_inputs, test_targets = (part.numpy() for part in data.split("test"))
    expected = mean_squared_error(test_targets, Ridge().fit(inputs, targets).predict(test_inputs))
    assert metrics["test/loss"] == pytest.approx(expected, rel=1e-5)


def test_a_grid_search_writes_its_trials_as_a_curve(tmp_path: Path) -> None:
    x = torch.tensor([[1.0], [2.0], [3.0]])
    line = Splits(**dict.fromkeys(("train", "val", "test"), (x, 2 * x)))
    metrics = run_baseline(GridSearchConfig(trials=5), line, seed=0, records_to=tmp_path)
    assert metrics["test/loss"] == 0
    assert metrics["parameters"] == 1
    trials = read_curves(tmp_path)["train/loss"]
    assert trials == [(w, pytest.approx((w - 2) ** 2 * 14 / 3)) for w in range(5)]


def test_the_grid_search_is_for_real_targets(images: Splits) -> None:
    with pytest.raises(UserError, match=r"grid_search predicts real numbers"):
        run_baseline(GridSearchConfig(), images, seed=0)
    with pytest.raises(ValueError, match=r"low: 4.0 must be less than high, 4.0"):
        GridSearchConfig(low=4.0)

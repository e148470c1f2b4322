"""The probe against scikit-learn on the same features, and the published chain at a tiny size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

import experiments
from experiments.config.check import load_config
from experiments.errors import UserError
from experiments.studies.stages import run_stages
from experiments.training.build import build_data

CNN = {"name": "residual_cnn", "widths": [4, 6], "blocks": [0, 0]}
DIGITS = {"name": "digits", "views": 2, "batch_size": 128, "eval_batch_size": 90, "augment.shift": 1}


def test_trained_features_are_those_of_the_best_network(tiny: dict[str, Any]) -> None:
    task = {"name": "probe", "fit": "net", "labels": 200, "neighbors": 3, "inverse_penalty": 0.5}
    stages = {"net": {}, "probe": {"task": task}}
    result = experiments.run({**tiny, "model": CNN}, {"stages": stages}, "run_dir=chain")
    module = result.children["net"].module
    data = build_data(load_config({**tiny, "model": CNN}, "data.train_samples=200"))
    with torch.no_grad():
        rows = {
            name: module.features(data.normalize(data.split(name)[0])).numpy() for name in ("train", "test")
        }
    targets = {name: data.split(name)[1].numpy() for name in rows}
    scaler = StandardScaler().fit(rows["train"])
    linear = LogisticRegression(C=0.5, max_iter=1000).fit(scaler.transform(rows["train"]), targets["train"])
    expected = linear.score(scaler.transform(rows["test"]), targets["test"])
    assert result.metrics["test/accuracy"] == pytest.approx(expected, abs=2 / 360)
    nearest = np.argsort(-cosine_similarity(rows["test"], rows["train"]), axis=1, kind="stable")[:, :3]
    votes = np.stack([np.bincount(v, minlength=10).argmax() for v in targets["train"][nearest]])
    agreement = (votes == targets["test"]).mean()
    assert result.metrics["test/neighbors_accuracy"] == pytest.approx(agreement, abs=2 / 360)


@pytest.mark.slow
def test_the_contrastive_chain_runs_at_a_tiny_size(work: Path) -> None:
    small = {
        "data": DIGITS,
        "model": {"widths": [4, 6, 8]},
        "stages": {
            "supervised_100": {"model": {"widths": [4, 6, 8]}, "trainer.max_steps": 20, "data.batch_size": 50}
        },
        "trainer": {"max_epochs": 2, "progress_bar": False, "accelerator": "cpu"},
    }
    result = experiments.run("configs/mnist_contrastive.yaml", small, "seeds=[0,1]", "run_dir=chain")
    names = ("learned", "random", "pixels", "learned_100", "random_100", "pixels_100", "supervised_100")
    scores = {name: result.metrics[f"{name}/test/accuracy"] for name in names}
    assert scores["pixels"] > 0.9
    assert scores["learned"] != scores["random"]
    assert scores["learned"] > scores["learned_100"]
    for seed in (0, 1):
        shown = Path(f"chain/learned/seed_{seed}/tensorboard")
        labels = next(shown.rglob("metadata.tsv")).read_text().split()
        assert len(labels) == 180
        assert set(labels) == set("0123456789")
        assert list(shown.rglob("sprite.png"))
        assert not (Path(f"chain/learned_100/seed_{seed}") / "tensorboard").exists()
    assert (work / "chain/comparison.png").is_file()


def test_a_probe_without_a_network_on_images_is_refused(tiny: dict[str, Any]) -> None:
    for stages, said in (
        ({"probe": {"task": {"name": "probe", "fit": "net"}}, "net": {}}, "allowed: none"),
        ({"net": {}, "probe": {"task": {"name": "probe", "fit": "nets"}}}, "allowed: net"),
    ):
        with pytest.raises(UserError, match=rf"stages\.probe: task\.fit = 'nets?': no earlier fit .*{said}"):
            run_stages(load_config({**tiny, "stages": stages}))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (15, r"stages\.probe: task\.neighbors = 20 is more than task\.labels = 15"),
        (60_000, "train_samples: 60000"),
    ],
)
def test_labels_that_the_data_cannot_have_are_refused_before_the_fit(
    tiny: dict[str, Any], labels: int, said: str
) -> None:
    task = {"name": "probe", "fit": "net", "labels": labels}
    chain = {**tiny, "data": {"name": "mnist"}, "stages": {"net": {}, "probe": {"task": task}}}
    with pytest.raises(UserError, match=said):
        run_stages(load_config(chain))

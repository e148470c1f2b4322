"""Published studies and chains run to their end at a tiny size; their tables and curves are checked."""

import csv
import itertools
import math
from pathlib import Path
from typing import Any

import pytest

import experiments
from datamodules.play_passages import PlayPassagesDataModule
from datamodules.text.shakespeare_plays import Play
from experiments.callbacks import mistake_gradients
from experiments.config.check import load_config
from experiments.config.sources import PUBLISHED, read_file
from experiments.studies.comparison import matching
from experiments.training.curve_file import read_curves

REPOSITORY = Path(__file__).parents[3]
SHORT = {
    "seeds": [0],
    "run_dir": "out",
    "trainer": {
        "max_epochs": 1,
        "limit_train_batches": 4,
        "limit_val_batches": 1,
        "limit_test_batches": 1,
        "log_every_n_steps": 1,
        "accelerator": "cpu",
        "progress_bar": False,
    },
}
TEXT = {"data.name": "text", "data.path": "text.txt", "data.batch_size": 4, "data.context_length": 16}
PAIRS = {"model.hidden": 8, "data": {"width": 16, "size": 200, "val_size": 40}}
VALIDATED = {"trainer.check_val_every_n_steps": 2}
SMALLER: dict[str, dict[str, Any]] = {
    "attention_compare": TEXT,
    "classification_losses": VALIDATED,
    "norms_compare": VALIDATED,
    "play_genre_encoder": {"data.tokenizer.kind": "character"},
    "positions_compare": {**TEXT, "data.train_context_length": 8},
    "steering_synthetic": PAIRS,
    "steering_synthetic_best": {**PAIRS, "variants.linear_skip.trainer.max_epochs": 1},
}
"""Further changes that make a study tiny; all studies take four steps, and read small digits for MNIST."""
THE_SAME = {
    "char_rnn_hello_study": {"cells_4", "layer_4"},
    "from_scratch": {"numpy", "our_functions", "autograd"},
    "linear_regression": {"gradient_of_all", "autograd"},
}
"""Arms that compute the same in different ways; all other arms must differ."""
STUDIES = [path for path in sorted(PUBLISHED.glob("*.yaml")) if load_config(path).form == "variants"]
PLAYS = [
    Play(name=f"{genre}-{number}", genre=genre, text=f"some words of all the {genre} in the world " * 30)
    for genre in ("comedies", "histories", "tragedies")
    for number in range(8)
]


def on_digits(path: Path) -> dict[str, Any]:
    """The data of a config on MNIST, with the same settings on the small digits; empty for other data."""
    data = read_file(path).values["data"]
    return {"data": {**data, "name": "digits"}} if data["name"] == "mnist" else {}


def read_table(folder: Path) -> dict[str, dict[str, float]]:
    """The mean of each metric of each arm; a failed fit or a metric that is not finite is an error."""
    found: dict[str, dict[str, float]] = {}
    with (folder / "comparison.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            assert row["failed"] == "0"
            found.setdefault(row["variant"], {})[row["metric"]] = float(row["mean"])
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_has_every_arm_column_and_curve_of_its_config(
    path: Path, work: Path, language_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "text.txt").write_text(language_text, encoding="utf-8")
    monkeypatch.setattr(PlayPassagesDataModule, "prepare_data", lambda self: None)
    monkeypatch.setattr(PlayPassagesDataModule, "read", lambda self: PLAYS)
    monkeypatch.setattr(mistake_gradients, "CONFIDENT", 0.0)  # four steps make no network confident
    config = load_config(path)
    experiments.run(path, SHORT, on_digits(path), SMALLER.get(path.stem, {}))
    table, shown = read_table(Path("out")), config.comparison
    fits = {child.path.partition("/")[0] for child in config.children}
    assert set(table) == fits | set(config.baselines)
    for arm, metrics in table.items():
        assert all(matching(metrics, [name]) for name in [*shown.columns, *(shown.panels or [])]), arm
    for arm in fits:
        curves = read_curves(Path("out", arm, "seed_0"))
        assert all(matching(curves, [name]) for name in shown.curves), arm
        assert all(len(matching(curves, [f"{name}/*"])) > 1 for name in shown.by_layer), arm
    for one, other in itertools.combinations(sorted(fits), 2):
        is_same = {one, other} <= THE_SAME.get(path.stem, set())
        losses = table[one]["test/loss"], table[other]["test/loss"]
        assert (losses[0] == pytest.approx(losses[1], rel=1e-6)) == is_same, (one, other, losses)


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process", "work")
def test_the_long_tail_study_has_the_recall_of_each_digit(capsys: pytest.CaptureFixture[str]) -> None:
    path = PUBLISHED / "mnist_imbalanced_focal.yaml"
    longer = {"trainer": {"max_epochs": 4, "limit_train_batches": None}, "data.batch_size": 32}
    experiments.run(path, SHORT, on_digits(path), longer)
    assert "training images of each class: 121, 73, 43, 26, 16, 9, 6, 3, 2, 1\n" in capsys.readouterr().out
    for arm, metrics in read_table(Path("out")).items():
        recall = dict(read_curves(Path("out", arm, "seed_0"))["test/recall_by_class"])
        assert list(recall) == list(range(10))
        # The test set has 35 to 37 images of each digit.
        assert sum(recall.values()) / 10 == pytest.approx(metrics["test/accuracy"], abs=0.01)
        assert metrics["test/accuracy"] > 0.2


@pytest.mark.slow
@pytest.mark.usefixtures("work")
def test_the_distilled_students_learn_from_their_teachers_at_each_number_of_labels() -> None:
    path = PUBLISHED / "mnist_distil.yaml"
    sizes = {"1000": 40, "10000": 200}  # all: 1,257
    small = {
        "optimizer.lr": 0.02,
        "data": {"augment": {"shift": 1, "rotation": 0, "scale": 0}},
        "trainer": {"limit_train_batches": None, "max_epochs": None, "max_steps": 60},
        "trainer.check_val_every_n_steps": 30,
        **{f"stages.{name}.trainer.max_steps": 40 for name in ("teacher", "teacher_1000")},
        **{
            f"stages.{name}.data.train_samples": sizes[name.rpartition("_")[2]]
            for name in ("teacher_1000", "labels_1000", "distilled_1000", "labels_10000", "distilled_10000")
        },
    }
    experiments.run(path, SHORT, on_digits(path), small)
    accuracy = {stage: metrics["test/accuracy"] for stage, metrics in read_table(Path("out")).items()}
    assert list(accuracy) == list(read_file(path).values["stages"])
    assert min(accuracy.values()) > 0.4
    assert accuracy["labels_1000"] < min(accuracy["labels_10000"], accuracy["labels_all"])
    assert accuracy["teacher_1000"] < accuracy["teacher"]
    assert accuracy["distilled_from_1000"] < accuracy["distilled_all"] != accuracy["labels_all"]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.usefixtures("work")
def test_the_adapted_language_models_are_tested_on_old_and_new_plays() -> None:
    small = {
        "model": {"depth": 1, "width": 32},
        "data": {
            "root": str(REPOSITORY / "data"),
            "context_length": 16,
            "batch_size": 4,
            "steps_per_epoch": 8,
        },
        "data.tokenizer.vocab_size": 300,
        "trainer.limit_train_batches": 8,
        "stages.pretrain": {"trainer.max_epochs": 1, "data.genres": ["romances"]},
    }
    experiments.run(PUBLISHED / "lm_lora.yaml", SHORT, small)
    with Path("out/compare/seed_0/cross_evaluation.csv").open(newline="") as file:
        rows = {row.pop("fit"): {k: float(v) for k, v in row.items()} for row in csv.DictReader(file)}
    assert list(rows) == ["pretrain", "full", "lora"]
    for row in rows.values():
        for plays in ("pretrain", "full"):  # the old plays, and the new ones
            loss = row[f"test/loss on {plays}"]
            assert 0 < loss < 1.1 * math.log(300)
            assert row[f"test/perplexity on {plays}"] == pytest.approx(math.exp(loss), rel=1e-4)
    for name in ("full", "lora"):
        assert rows[name]["test/loss on full"] < rows["pretrain"]["test/loss on full"]
    assert rows["full"]["trained_parameters"] == rows["pretrain"]["trained_parameters"]
    for cost in ("trained_parameters", "weights_mb"):
        assert rows["lora"][cost] < rows["full"][cost] / 4


@pytest.mark.slow
@pytest.mark.usefixtures("work")
def test_grpo_and_its_rivals_go_on_from_one_start() -> None:
    path = PUBLISHED / "lm_grpo.yaml"
    rivals = ("grpo", "rejection", "supervised")
    small = {
        "model": {"depth": 1, "width": 16, "num_heads": 2},
        "data": {"batch_size": 2, "val_size": 4, "test_size": 4, "longer_size": 4},
        "trainer.check_val_every_n_steps": 2,
        "stages.start": {"data": {"batch_size": 4, "train_size": 16}, "trainer.max_epochs": 1},
        "stages.start.trainer.check_val_every_n_steps": 2,
        **{f"stages.{name}.data": {"train_skip": 16, "train_size": 8} for name in rivals},
        "stages.supervised.data.batch_size": 2,
    }
    experiments.run(path, SHORT, small)
    table, shown = read_table(Path("out")), load_config(path).comparison
    assert list(table) == ["start", *rivals]
    assert all(metrics["steps"] == 4 for metrics in table.values())
    assert all(metrics.keys() >= set(shown.columns) for metrics in table.values())
    losses = {name: metrics["test/loss"] for name, metrics in table.items()}
    for name in rivals:
        config = load_config(f"out/{name}/seed_0/config.yaml").model.config
        assert config.init_from == "out/start/seed_0/checkpoints/best.ckpt"
    curves = {name: read_curves(Path("out", name, "seed_0")) for name in table}
    assert curves["grpo"].keys() >= set(shown.curves)
    assert curves["rejection"].keys() >= set(shown.curves) - {"train/kl"}
    assert all(value >= 0 for _, value in curves["grpo"]["train/kl"])
    assert all(0 <= value <= 1 for _, value in curves["grpo"]["train/reward"])
    assert losses["supervised"] < losses["start"]

"""The published studies and chains run to their end at a tiny size, and leave what their readers look at."""

import csv
import itertools
from pathlib import Path
from typing import Any

import pytest

import experiments
from datamodules.play_passages import PlayPassagesDataModule
from datamodules.text.shakespeare_plays import Play
from experiments.callbacks import mistake_gradients
from experiments.config.check import load_config
from experiments.config.sources import PUBLISHED
from experiments.studies.comparison import matching
from experiments.training.curve_file import read_curves

DATA = str(Path(__file__).parents[3] / "data")
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
"""What makes a study tiny, besides four steps, and small digits instead of MNIST."""
THE_SAME = {
    "char_rnn_hello_study": {"cells_4", "layer_4"},
    "from_scratch": {"numpy", "our_functions", "autograd"},
    "linear_regression": {"gradient_of_all", "autograd"},
}
"""Arms that are one computation, done in different ways."""
STUDIES = [path for path in sorted(PUBLISHED.glob("*.yaml")) if load_config(path).form == "variants"]
PLAYS = [
    Play(name=f"{genre}-{number}", genre=genre, text=f"some words of all the {genre} in the world " * 30)
    for genre in ("comedies", "histories", "tragedies")
    for number in range(8)
]


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
def test_a_study_compares_all_its_arms_by_all_that_it_names(
    path: Path, work: Path, language_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "text.txt").write_text(language_text, encoding="utf-8")
    monkeypatch.setattr(PlayPassagesDataModule, "prepare_data", lambda self: None)
    monkeypatch.setattr(PlayPassagesDataModule, "read", lambda self: PLAYS)
    monkeypatch.setattr(mistake_gradients, "CONFIDENT", 0.0)  # four steps make no network confident
    config = load_config(path)
    smaller = {"data.name": "digits"} if config.data.name == "mnist" else {}
    experiments.run(path, SHORT, {**smaller, **SMALLER.get(path.stem, {})})
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

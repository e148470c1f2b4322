"""The stage left by the tiny chain."""

import csv
import json
import math
from pathlib import Path

import pytest

from experiments.steering.methods import METHODS
from experiments.training.run_directory import read_metrics


def test_the_comparison_has_every_method_and_what_decides(chain_run: Path) -> None:
    found = read_metrics(chain_run / "test")
    for subset in ("all", "seen", "unseen"):
        assert {f"test/{subset}/{method}/margin" for method in METHODS} <= found.keys()
        assert f"test/{subset}/gap_closed" in found
        assert f"test/{subset}/l2s_minus_mean" in found
    assert all(math.isfinite(value) for value in found.values())
    difference = found["test/all/l2s/margin"] - found["test/all/mean/margin"]
    assert found["test/all/l2s_minus_mean"] == pytest.approx(difference, abs=1e-6)
    table = (chain_run / "test" / "table.md").read_text()
    assert all(f"| {method}: {what} |" in table for method, what in METHODS.items())
    chosen = json.loads((chain_run / "choose" / "choice.json").read_text())["stage"]
    assert (chain_run / "test" / f"{chosen}_seed_1" / "checkpoints" / "best.ckpt").is_file()


def test_every_prompts_margins_are_kept(chain_run: Path) -> None:
    with (chain_run / "test" / "prompts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    found = read_metrics(chain_run / "test")
    for method in METHODS:
        margin = sum(float(row[method]) for row in rows) / 8
        assert found[f"test/all/{method}/margin"] == pytest.approx(margin, abs=1e-6)

"""A sweep chooses by validation, ends bad fits early, goes on after more is asked, and reports."""

import csv
import importlib.util
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.errors import UserError


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_grid_with_two_workers(tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    rates = [0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 1e-7]
    result = experiments.run(tiny, {"sweep": {"optimizer.lr": rates, "jobs": 2}})
    printed = capsys.readouterr().out
    table = rows(result.run_dir)
    assert [float(row["optimizer.lr"]) for row in table] == rates
    assert [row["state"] for row in table] == ["complete"] * 6 + ["pruned"]
    assert "1 ended early" in printed
    losses = {row["trial"]: float(row["val/loss"]) for row in table[:6]}
    best = min(losses, key=losses.__getitem__)
    assert f"best by val/loss: {best}" in printed
    assert result.metrics["val/loss"] == losses[best]
    assert not result.module.training
    assert list(result.children) == sorted(losses, key=losses.__getitem__)
    names = {p.name for p in result.run_dir.iterdir() if p.is_file()}
    assert {"sweep.csv", "sweep.png", "comparison.md", "comparison.csv", "comparison.png"} <= names
    assert "tiny optimizer.lr=0.05" in (result.run_dir / "comparison.md").read_text()
    # Nothing is left to do: a resume only reports.
    again = experiments.run(f"resume={result.run_dir}")
    assert again.metrics == result.metrics


@pytest.mark.slow
def test_a_search_goes_on_with_more_fits(tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    sweep = {"optimizer.lr": {"min": 0.01, "max": 0.1, "log": True}, "model.hidden": [[8], []], "trials": 2}
    result = experiments.run(tiny, {"sweep": sweep}, "trainer.max_epochs=1")
    first = rows(result.run_dir)
    assert "importance: " in capsys.readouterr().out
    more = experiments.run(f"resume={result.run_dir}", "sweep.trials=3")
    assert rows(more.run_dir)[:2] == first
    assert len(rows(more.run_dir)) == 3
    with pytest.raises(UserError, match=r"cannot continue .* with other settings"):
        experiments.run(f"resume={result.run_dir}", "model.dropout=0.1")


def test_without_optuna_one_line_says_what_to_install(
    tiny: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'a sweep needs Optuna: pip install "optuna>=5\.0"'):
        experiments.run(tiny, "sweep.optimizer.lr=[0.1,0.2]")
    assert not (work / "runs").exists()

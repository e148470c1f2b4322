"""A sweep chooses by validation, ends bad fits early, goes on after more is asked, and reports."""

import csv
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import experiments
from experiments.errors import RunError, UserError
from experiments.training import checkpoint


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


@pytest.mark.slow
def test_a_worker_joins_a_sweep_that_runs(
    tiny: dict[str, Any], in_this_process: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process has the directory, and one of the trials."""
    rates = {"sweep": {"optimizer.lr": {"min": 0.01, "max": 0.1}, "trials": 1}}
    run_dir = experiments.run(tiny, rates, "trainer.max_epochs=1").run_dir
    with FileLock(run_dir / ".lock"), pytest.raises(UserError, match="is in use by"):
        experiments.run(tiny, rates, f"run_dir={run_dir}", "resume=auto", "trainer.max_epochs=1")
    in_this_process.clear()
    with FileLock(run_dir / ".lock"):
        joined = experiments.run(f"resume={run_dir}", "sweep.trials=3")
    assert in_this_process == [f"{run_dir}/trial_001", f"{run_dir}/trial_002"]
    assert joined.metrics == {}
    assert len(rows(run_dir)) == 1  # the process that began the sweep reports it
    assert f"joining the sweep that runs in {run_dir}" in capsys.readouterr().out
    reported = experiments.run(f"resume={run_dir}", "sweep.trials=3")
    assert len(in_this_process) == 2
    assert [row["state"] for row in rows(reported.run_dir)] == ["complete"] * 3


@pytest.mark.slow
def test_a_killed_sweep_is_taken_up_again_and_runs_each_trial_once(
    tiny: dict[str, Any],
    work: Path,
    kill_when: Callable[[Mapping[str, Any], Sequence[Path]], None],
    in_this_process: list[str],
) -> None:
    sweep = {**tiny, "sweep": {"optimizer.lr": [0.05, 0.06, 0.07], "jobs": 2, "prune": False}}
    sweep["trainer"] = {**tiny["trainer"], "max_epochs": 1000}
    folders = [work / f"out/trial_00{number}" for number in range(3)]
    kill_when(sweep, [folder / "checkpoints/best.ckpt" for folder in folders[:2]])
    steps = [checkpoint.load(folder / "checkpoints/last.ckpt")["global_step"] for folder in folders[:2]]
    result = experiments.run("resume=out", "sweep.jobs=1", f"trainer.max_steps={max(steps) + 6}")
    assert in_this_process == ["out/trial_000", "out/trial_001", "out/trial_002"]
    assert [row["state"] for row in rows(result.run_dir)] == ["complete"] * 3
    for folder, step in zip(folders, steps, strict=False):
        assert f"step {step}" in (folder / "run.log").read_text()


@pytest.mark.slow
def test_a_mistake_of_all_fits_ends_the_sweep_and_leaves_nothing(
    tiny: dict[str, Any], work: Path, in_this_process: list[str]
) -> None:
    wrong = {**tiny, "data": {"name": "image_folder", "path": "/nowhere"}}
    with pytest.raises(UserError, match="the first 3 fits were refused; the last one: data: there is no"):
        experiments.run(wrong, "sweep.optimizer.lr=[0.1,0.2,0.3,0.4]", "run_dir=out")
    assert len(in_this_process) == 3
    with pytest.raises(RunError, match="none of the 2 fits finished"):
        experiments.run(wrong, "sweep.optimizer.lr=[0.1,0.2]", "run_dir=out")
    assert not list(work.iterdir())


def test_several_processes_of_a_launcher_are_refused(
    tiny: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"^torchrun or srun has started several processes of this sweep"):
        experiments.run(tiny, "sweep.optimizer.lr=[0.1,0.2]")
    assert not (work / "runs").exists()


def test_without_optuna_one_line_says_what_to_install(
    tiny: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'a sweep needs Optuna: pip install "optuna>=5\.0"'):
        experiments.run(tiny, "sweep.optimizer.lr=[0.1,0.2]")
    assert not (work / "runs").exists()

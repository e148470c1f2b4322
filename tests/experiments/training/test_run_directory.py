"""Where a run is written, which one is taken up again, and that no reader sees half a file."""

import csv
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest

from experiments.config.check import load_config
from experiments.errors import RunError, UserError
from experiments.training import run_directory


def begun(name: str, folder: str, *, age: int, finished: str | None = None, children: bool = False) -> Path:
    """A run directory as a run of this form leaves it, last touched so many seconds ago."""
    path = Path("runs", name, folder)
    checkpoint = path / "child" / "config.yaml" if children else path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("")
    (path / "config.yaml").write_text("")
    if finished:
        (path / finished).write_text("{}")
    os.utime(path / "config.yaml", (10_000 - age, 10_000 - age))
    return path


def test_the_newest_unfinished_run_is_found_by_name_and_form(tiny: dict[str, Any]) -> None:
    fit, study = load_config(tiny), load_config(tiny, "seeds=[0,1]")
    assert run_directory.unfinished(fit) == []
    begun("tiny", "old", age=30)
    newer = begun("tiny", "a_newer_one", age=20)
    begun("tiny", "finished", age=10, finished="metrics.json")
    begun("other", "newest", age=0)
    (Path("runs", "tiny", "nothing_saved")).mkdir()
    (Path("runs", "tiny", "nothing_saved", "config.yaml")).write_text("")
    assert run_directory.unfinished(fit)[0] == newer
    whole = begun("tiny", "a_study", age=25, children=True)
    begun("tiny", "a_compared_study", age=1, children=True, finished="comparison.csv")
    (newer / "comparison.csv").write_text("")
    (Path("runs", "tiny", "nothing_saved") / "comparison.csv").write_text("")
    assert run_directory.unfinished(study)[0] == whole


def test_a_new_start_in_a_directory_removes_what_comes_again(tiny: dict[str, Any], work: Path) -> None:
    path = work / "out"
    for name in ("metrics.csv", "metrics.json", "tensorboard/events.1", "checkpoints/last.ckpt"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("old")
    (path / "notes.txt").write_text("mine")
    run_directory.write_start(path, load_config(tiny))
    # Only a directory that a run has begun is ours to clear.
    assert (path / "metrics.csv").exists()
    run_directory.write_start(path, load_config(tiny))
    assert sorted(p.name for p in path.rglob("*") if p.is_file()) == [
        "config.yaml",
        "environment.json",
        "last.ckpt",  # no checkpoint is ever deleted; a damaged one is moved aside before
        "notes.txt",
    ]
    assert load_config(path / "config.yaml").plain == load_config(tiny).plain


def test_a_continuation_takes_its_new_settings_and_has_no_final_metrics(
    tiny: dict[str, Any], work: Path
) -> None:
    run_directory.write_start(work, load_config(tiny))
    run_directory.write_metrics(work, {"a": 1.0})
    run_directory.write_continuation(work, load_config(tiny, "trainer.max_epochs=7"))
    assert not (work / "metrics.json").exists()
    assert load_config(work / "config.yaml").trainer.max_epochs == 7


def test_a_failed_write_leaves_the_old_file(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = work / "a.txt"
    run_directory.write_text(path, "old")

    def fail(*arguments: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RunError, match=re.escape(f"cannot write {path}: no space left")):
        run_directory.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(work.iterdir()) == [path]  # nothing half-written


def test_a_table_is_read_back_as_it_was(work: Path) -> None:
    rows = [["prompt", "margin"], ['who, "me"?\nyes', "-0.25"], ["", "nan"]]
    run_directory.write_csv(work / "table.csv", rows)
    with (work / "table.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == rows


def test_a_directory_in_use_is_refused_to_rank_zero_and_shared_by_the_others(
    tiny: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_config(tiny, "run_dir=out")
    run_directory.write_start(run_directory.choose(settings), settings)
    with pytest.raises(UserError, match="already holds a run"):
        run_directory.choose(settings)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_directory.choose(settings) == Path("out")


@pytest.mark.parametrize(
    ("variables", "is_worker"),
    [
        ({}, False),
        ({"RANK": "0", "LOCAL_RANK": ""}, False),
        ({"RANK": "3"}, True),
        ({"NODE_RANK": "1"}, True),
    ],
)
def test_a_rank_above_zero_is_a_worker(
    variables: dict[str, str], is_worker: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run_directory.is_worker() == is_worker


def test_metrics_that_are_not_finite_are_null_in_the_file(work: Path) -> None:
    run_directory.write_metrics(work, {"a": math.nan, "b": math.inf, "c": 1.5})
    assert json.loads((work / "metrics.json").read_text()) == {"a": None, "b": None, "c": 1.5}
    read = run_directory.read_metrics(work)
    assert math.isnan(read["a"])
    assert read["c"] == 1.5


def test_ranks_that_slurm_starts_at_once_agree_without_talking(
    tiny: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "3"}.items():
        monkeypatch.setenv(name, value)
    paths = []
    for rank in ("1", "0"):
        monkeypatch.setenv("SLURM_PROCID", rank)
        paths.append(run_directory.choose(load_config(tiny)))
    assert paths == [Path("runs/tiny/job-12-3-0")] * 2


def test_a_rank_that_lightning_starts_takes_the_directory_of_rank_zero(
    tiny: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = run_directory.choose(load_config(tiny))
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_directory.choose(load_config(tiny)) == chosen.resolve()
    # A stage of a chain has a directory of its own, whatever rank zero chose for the chain.
    assert run_directory.choose(load_config(tiny, "run_dir=chain/a")) == Path("chain/a")
    assert not (work / "chain").exists()


def test_a_new_run_never_takes_a_folder_with_results(tiny: dict[str, Any], work: Path) -> None:
    for name in run_directory.RESULTS:
        (work / "old" / name).mkdir(parents=True)
        with pytest.raises(UserError, match="already holds a run"):
            run_directory.choose(load_config(tiny, "run_dir=old"))
        (work / "old" / name).rmdir()
    (work / "old" / "job.out").write_text("")  # where a script sends what is printed
    assert run_directory.choose(load_config(tiny, "run_dir=old")) == Path("old")


def test_a_directory_that_cannot_be_read_is_refused(
    tiny: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(UserError, match="cannot read the run directory x: Permission denied"):
        run_directory.choose(load_config(tiny, "run_dir=x"))
    assert not (work / "x").exists()


def test_a_refused_run_takes_its_own_files_with_it_and_no_others(tiny: dict[str, Any], work: Path) -> None:
    (work / "config.yaml").write_text("of the user")
    (work / "mine" / "config").mkdir(parents=True)
    for path in ("mine/config/config.yaml", "mine/run.log"):
        (work / path).write_text("of the user")
    before = sorted(work.rglob("*"))
    for run_dir in ("a/b/c", "mine"):
        config = load_config(tiny, f"run_dir={run_dir}")
        path = run_directory.choose(config)
        run_directory.write_start(path, config)
        run_directory.discard(path)
        assert sorted(work.rglob("*")) == before
        path = run_directory.choose(config)
        run_directory.write_start(path, config)
        run_directory.write_metrics(path, {"a": 1.0})
        run_directory.discard(path)  # it has a result
        assert (path / "config.yaml").exists()
        for name in ("config.yaml", "environment.json", "metrics.json", ".lock", ".owner"):
            (path / name).unlink()
        if run_dir != "mine":
            for folder in (path, *path.parents[:2]):
                folder.rmdir()


def test_auto_passes_over_a_run_that_goes_on(tiny: dict[str, Any], work: Path) -> None:
    older, newest = begun("tiny", "older", age=20), begun("tiny", "newest", age=10)
    from filelock import FileLock

    with FileLock(newest / ".lock"):
        assert run_directory.take_unfinished(load_config(tiny)) == older
    assert run_directory.take_unfinished(load_config(tiny)) == newest


def test_a_slurm_rank_follows_rank_zero(
    tiny: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = begun("tiny", "older", age=20)
    begun("tiny", "newest", age=10)
    (taken / ".owner").write_text(json.dumps({"pid": 1, "host": "a", "job": "12-3-0"}))
    variables = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "3", "SLURM_PROCID": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run_directory.take_unfinished(load_config(tiny)) == taken
    monkeypatch.setattr(run_directory, "LONGEST_WAIT", 0)
    monkeypatch.setenv("SLURM_STEP_ID", "4")
    with pytest.raises(UserError, match="rank zero has not taken"):
        run_directory.take_unfinished(load_config(tiny))


def test_a_second_run_of_one_slurm_step_deletes_nothing(
    tiny: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "3"}.items():
        monkeypatch.setenv(name, value)
    first = run_directory.choose(load_config(tiny))
    (first / "notes").write_text("")
    with pytest.raises(UserError, match="give each run of this SLURM step its own run_dir"):
        run_directory.choose(load_config(tiny))
    assert (first / "notes").exists()

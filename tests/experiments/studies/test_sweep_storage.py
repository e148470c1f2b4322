"""Workers share the trials of a sweep: none is lost, none runs twice, and what was drawn stays."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from experiments.config.check import load_config
from experiments.config.root import Config
from experiments.errors import RunError
from experiments.studies.sweep_storage import folder, next_trial, open_study, plan, settings_of, values_of

BASE = {"model.name": "mlp", "data.name": "digits"}
RANGE = "sweep.optimizer.lr={min: 0.001, max: 1, log: true}"


def planned(run_dir: Path, *overrides: str) -> tuple[optuna.Study, Config]:
    experiment = load_config(BASE, *overrides)
    study = open_study(run_dir, experiment)
    plan(study, experiment)
    return study, experiment


def test_a_grid_has_every_combination_once(tmp_path: Path) -> None:
    words = ("sweep.optimizer.lr=[0.1,0.2]", "sweep.model.hidden=[[8],[]]")
    study, experiment = planned(tmp_path, *words)
    plan(study, experiment)  # again, as on a resume
    seen = []
    while found := next_trial(study, tmp_path, experiment.sweep.trials):
        trial, lock = found
        seen.append(settings_of(trial, experiment))
        study.tell(trial, float(len(seen)))
        lock.release()
    assert [(s["optimizer.lr"], s["model.hidden"]) for s in seen] == [
        (0.1, [8]),
        (0.1, []),
        (0.2, [8]),
        (0.2, []),
    ]
    assert values_of(study.get_trials()[1], experiment) == seen[1]


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_what_is_drawn_depends_on_the_seed_and_the_number_of_the_trial(tmp_path: Path, method: str) -> None:
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        words = (RANGE, f"sweep.method={method}", "sweep.trials=3", f"seed={seed}")
        for _ in range(3):  # three processes, one after the other
            study, experiment = planned(tmp_path / name, *words)
            trial, lock = next_trial(study, tmp_path / name, 3) or pytest.fail("there is a trial")
            drawn.append(settings_of(trial, experiment)["optimizer.lr"])
            study.tell(trial, 1.0)
            lock.release()
    assert drawn[:3] == drawn[3:6]
    assert len(set(drawn)) == 6
    assert all(0.001 <= lr <= 1 for lr in drawn)


def test_a_trial_whose_worker_is_gone_is_continued_with_its_settings(tmp_path: Path) -> None:
    study, experiment = planned(tmp_path, RANGE, "sweep.trials=3")
    first, first_lock = next_trial(study, tmp_path, 3) or pytest.fail("there is a trial")
    second, second_lock = next_trial(study, tmp_path, 3) or pytest.fail("there is a trial")
    assert [folder(first), folder(second)] == ["trial_000", "trial_001"]
    drawn = settings_of(first, experiment)
    first_lock.release()  # as the operating system does for a killed process
    other, _ = planned(tmp_path, RANGE, "sweep.trials=3")
    again, lock = next_trial(other, tmp_path, 3) or pytest.fail("there is a trial")
    assert again.number == 0
    assert settings_of(again, experiment) == drawn
    other.tell(again, 0.5)
    study.tell(second, 0.4)
    for each in (lock, second_lock):
        each.release()
    third, lock = next_trial(other, tmp_path, 3) or pytest.fail("there is a trial")
    other.tell(third, state=TrialState.FAIL)
    lock.release()
    assert next_trial(study, tmp_path, 3) is None
    assert len(study.get_trials()) == 3
    assert study.best_trial.number == 1


def test_more_trials_are_added_on_a_resume(tmp_path: Path) -> None:
    planned(tmp_path, RANGE, "sweep.trials=2")
    study, _ = planned(tmp_path, RANGE, "sweep.trials=5")
    assert [t.state for t in study.get_trials()] == [TrialState.WAITING] * 5


def test_a_worker_that_was_killed_while_it_wrote_stops_no_other(work: Path) -> None:
    """It leaves a part of a line, and on a file system without locks a lock file of Optuna's would stay."""
    run_dir = Path("out")  # a relative path, as of run_dir=out
    run_dir.mkdir()
    planned(run_dir, RANGE, "sweep.trials=2")
    journal = run_dir / "sweep.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker_id":"x","stu')
    (run_dir / "sweep.journal.lock").symlink_to(journal)
    (run_dir / "sweep.lock").touch()
    study, _ = planned(run_dir, RANGE, "sweep.trials=3")
    trial, lock = next_trial(study, run_dir, 3) or pytest.fail("there is a trial")
    lock.release()
    assert trial.number == 0
    assert journal.read_bytes().startswith(whole + b"{")
    assert len(open_study(run_dir, load_config(BASE, RANGE)).get_trials()) == 3


def test_a_full_disk_names_the_journal(tmp_path: Path, file_size_limit: Callable[[int], None]) -> None:
    study, experiment = planned(tmp_path, RANGE, "sweep.trials=2")
    size = (tmp_path / "sweep.journal").stat().st_size
    file_size_limit(size + 10)
    with pytest.raises(RunError, match=r"^cannot write .*sweep\.journal: File too large$"):
        next_trial(study, tmp_path, 2)
    file_size_limit(1 << 40)
    again = open_study(tmp_path, experiment)
    trial, lock = next_trial(again, tmp_path, 2) or pytest.fail("there is a trial")
    lock.release()
    assert trial.number == 0


def test_the_journal_is_plain_text() -> None:
    """Optuna unpickles only snapshots, and a journal in a file has none."""
    assert not hasattr(JournalFileBackend, "load_snapshot")

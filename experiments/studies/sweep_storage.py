"""Store the trials of a sweep in a journal file, from which several processes take them.

A trial is waiting, running or ended. All trials are put into the journal at the start, so that workers never
run more than there should be. A worker holds a lock of the operating system on each trial that it runs. A
running trial without a lock has lost its worker, and the next worker continues it.
"""

import contextlib
import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import optuna
from filelock import FileLock, Timeout
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from experiments.config.root import Config
from experiments.config.sweep import Dimension
from experiments.errors import writing

JOURNAL = "sweep.journal"
_NAME = "sweep"
_LONGEST_LINE = 1 << 20


class Journal(JournalFileBackend):
    """A journal file with a lock of the operating system, which ends with its process.

    Optuna's own lock is a file. It outlives a process that is killed while it writes. The others then wait
    for 30 s, or for ever if the path is relative. What a killed process has written of a line is removed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """Add lines, which all are on the disk at the end."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with writing(self._path), FileLock(self._path.with_suffix(".lock")), self._path.open("r+b") as file:
            _cut_torn_line(file)
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())


def _cut_torn_line(file: IO[bytes]) -> None:
    """Go to the end of a file, and remove a last line that does not end."""
    start = max(0, file.seek(0, os.SEEK_END) - _LONGEST_LINE)
    file.seek(start)
    file.truncate(start + file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)


def open_study(run_dir: Path, experiment: Config) -> optuna.Study:
    """Open the study of a sweep, or create it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=_NAME,
        storage=JournalStorage(Journal(run_dir / JOURNAL)),
        direction="minimize" if experiment.trainer.monitor_mode == "min" else "maximize",
        pruner=optuna.pruners.MedianPruner()
        if experiment.sweep.settings.prune
        else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def plan(study: optuna.Study, experiment: Config) -> None:
    """Add the missing trials of the sweep; they wait for a worker."""
    sweep = experiment.sweep
    have = len(study.get_trials(deepcopy=False))
    points: list[dict[str, Any]] = [{}] * sweep.trials
    if sweep.method == "grid":
        lists = [[_choice(value) for value in d.values] for d in sweep.dimensions]
        points = [dict(zip(sweep.keys, point, strict=True)) for point in itertools.product(*lists)]
    for point in points[have:]:
        study.enqueue_trial(point)


def next_trial(study: optuna.Study, run_dir: Path, total: int) -> tuple[Trial, FileLock] | None:
    """Return a trial to run and its lock, which the caller releases; `None` if all have ended.

    While other workers run the last trials, it waits: one of them may be lost.
    """
    while True:
        trials = study.get_trials(deepcopy=False)
        for running in (t for t in trials if t.state == TrialState.RUNNING):
            lock = FileLock(run_dir / f"{folder(running)}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            if study._storage.get_trial(running._trial_id).state == TrialState.RUNNING:
                return Trial(study, running._trial_id), lock
            lock.release()
        if any(t.state == TrialState.WAITING for t in trials):
            trial = study.ask()
            if trial.number >= total:  # another worker has just taken the last one
                study.tell(trial, state=TrialState.FAIL)
                continue
            lock = FileLock(run_dir / f"{folder(trial)}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:  # another worker thought that it was lost, and runs it
                continue
            return trial, lock
        if not any(t.state == TrialState.RUNNING for t in trials):
            return None
        time.sleep(0.5)


def remove_locks(run_dir: Path) -> None:
    """Delete the lock files once all trials have ended."""
    for path in run_dir.glob("*.lock"):
        with contextlib.suppress(OSError):  # another worker is about to end
            path.unlink()


def folder(trial: Trial | FrozenTrial) -> str:
    """Return the subdirectory of a trial."""
    return f"trial_{trial.number:03d}"


def settings_of(trial: Trial, experiment: Config) -> dict[str, Any]:
    """Choose the settings of a trial, by their dotted keys; a trial that continues keeps its settings.

    The seed depends on the number of the trial, so that workers do not draw the same numbers.
    """
    seed = (experiment.seed * 1_000_003 + trial.number) % 2**32
    trial.study.sampler = _sampler(experiment.sweep.method, seed)
    return {d.key: _suggest(trial, d) for d in experiment.sweep.dimensions}


def values_of(trial: FrozenTrial, experiment: Config) -> dict[str, Any]:
    """Return the settings of a trial that has begun, by their dotted keys."""
    lists = {d.key for d in experiment.sweep.dimensions if d.values}
    return {key: json.loads(v) if key in lists else v for key, v in trial.params.items()}


def short(value: Any) -> Any:
    """Round a drawn number to four digits for a line of text."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _sampler(method: str, seed: int) -> BaseSampler:
    if method == "tpe":
        return TPESampler(seed=seed, multivariate=False, constant_liar=True)
    return RandomSampler(seed=seed)


def _suggest(trial: Trial, dimension: Dimension) -> Any:
    if dimension.values:
        return json.loads(trial.suggest_categorical(dimension.key, [_choice(v) for v in dimension.values]))
    low, high = dimension.low, dimension.high
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(dimension.key, low, high, log=dimension.log)
    return trial.suggest_float(dimension.key, low, high, log=dimension.log)


def _choice(value: Any) -> str:
    """Write a value of a list as text, because Optuna takes no lists as choices."""
    return json.dumps(value, ensure_ascii=False)

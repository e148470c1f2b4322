"""Run a sweep: fits whose settings a search chooses by the validation metric, then a report of all.

Workers share the trials through a journal file (`sweep_storage`). Each fit runs in its own process, like a
fit of a study. The test split plays no part in the choice.
"""

import functools
import importlib.util
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import cli
from experiments.config import own_code
from experiments.config.check import load_config
from experiments.config.messages import show
from experiments.config.root import Config
from experiments.console import say
from experiments.errors import Interrupted, UserError
from experiments.studies.processes import run_in_processes
from experiments.studies.study import ENDED_EARLY, Job, failure, note_failure, run_fit, run_job, say_failed
from experiments.studies.study_directory import open_directory
from experiments.terminal_streams import outlive_terminal
from experiments.training import resume
from experiments.training.fit import Result
from experiments.training.run_directory import nothing_left_if_refused, read_metrics
from experiments.training.run_lock import InUseError, claims_end, slurm_step

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from optuna.trial import FrozenTrial, Trial

MOST_REFUSED = 3
"""Number of refused fits after which a sweep without any other fit ends."""


def run_sweep(experiment: Config) -> Result:
    """Run the fits of a sweep and report them; `resume` continues a sweep, or joins one that runs.

    Raises:
        RunError: No fit finished.
        UserError: Optuna is not installed, a launcher has started several processes, or the settings of a
            resumed sweep differ.
        Interrupted: A signal stopped the sweep; `resume` continues it.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError('a sweep needs Optuna: pip install "optuna>=5.0"')
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE") or 1) > 1
    if by_torchrun or slurm_step() is not None:  # they would take different trials, and wait for each other
        raise UserError(
            "torchrun or srun has started several processes of this sweep: start one process; sweep.jobs is "
            "the number of fits at the same time, and resume=DIR joins a sweep from another machine"
        )
    from experiments.studies.sweep_report import report

    own_code.sources_of(experiment)  # refuses classes of a notebook before there is a directory
    with claims_end():
        try:
            run_dir, _ = open_directory(experiment, lambda folder: _check_same(experiment, folder))
        except InUseError:
            if experiment.resume in (None, "auto"):
                raise
            run_dir = Path(str(experiment.resume))
            say(f"joining the sweep that runs in {run_dir}")
            _check_same(experiment, run_dir)
            _work(experiment, run_dir)
            say("all fits have ended; the process that began the sweep reports them")
            return Result(metrics={}, run_dir=run_dir)
        with nothing_left_if_refused(run_dir):
            _work(experiment, run_dir)
            return report(experiment, run_dir)


def _check_same(experiment: Config, folder: Path) -> None:
    """Refuse to continue a sweep with other settings."""
    saved = load_config(folder / "config.yaml").plain
    resume.check_same(experiment.plain, saved, folder, "another run_dir starts a new sweep")


def _work(experiment: Config, run_dir: Path) -> None:
    """Run all trials, several at a time if there are several jobs."""
    from experiments.studies.sweep_storage import open_study, plan

    plan(open_study(run_dir, experiment), experiment)
    jobs = min(experiment.sweep.settings.jobs, experiment.sweep.trials)
    if jobs == 1:
        _run_trials(experiment, run_dir)
        return
    arguments = (str(run_dir), experiment.plain, own_code.sources_of(experiment))
    statuses, signum = run_in_processes(_worker, [arguments] * jobs)
    if signum is not None:
        raise Interrupted(signum, run_dir, run_dir)
    if all(status == 2 for status in statuses):
        raise UserError("no worker could run a fit; the lines above say why")


def _worker(run_dir: str, plain: Mapping[str, Any], own: Sequence[str]) -> None:
    """Run trials in a process of its own, until all have ended."""

    def main(_: list[str]) -> int:
        own_code.load(own)
        try:
            _run_trials(load_config(plain), Path(run_dir))
        except Interrupted as error:
            return 128 + error.signum  # the process that began the sweep prints how to continue
        return 0

    outlive_terminal()
    sys.exit(cli.command(main)([]))


def _run_trials(experiment: Config, run_dir: Path) -> None:
    """Run one trial after the other, until all have ended."""
    from experiments.studies.sweep_storage import next_trial, open_study

    study = open_study(run_dir, experiment)
    while (found := next_trial(study, run_dir, experiment.sweep.trials)) is not None:
        trial, lock = found
        try:
            _run_trial(experiment, run_dir, trial)
            _check_not_all_refused(study.get_trials(deepcopy=False), run_dir)
        finally:
            lock.release()


def _check_not_all_refused(trials: "Sequence[FrozenTrial]", run_dir: Path) -> None:
    """End a sweep whose first fits have all been refused: the mistake is in what they share.

    Raises:
        UserError: At least `MOST_REFUSED` fits were refused, and no fit has begun.
    """
    from optuna.trial import TrialState

    from experiments.studies.sweep_storage import folder

    failed = [t for t in trials if t.state == TrialState.FAIL]
    if any(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials):
        return
    notes = [failure(run_dir / folder(trial)) for trial in failed]
    if len(notes) >= MOST_REFUSED and all(note.get("exit_status") == 2 for note in notes):
        raise UserError(f"the first {len(notes)} fits were refused; the last one: {notes[-1].get('error')}")


def _run_trial(experiment: Config, run_dir: Path, trial: "Trial") -> None:
    """Run the fit of a trial, and tell the search its value or that it has none."""
    from optuna.trial import TrialState

    from experiments.studies.sweep_storage import folder, settings_of, short

    values = settings_of(trial, experiment)
    path, monitor = folder(trial), experiment.trainer.monitor
    shown = " ".join(f"{key}={show(short(value))}" for key, value in values.items())
    say(f"[{trial.number + 1}/{experiment.sweep.trials}] {path}: {shown}")
    try:
        config = trial_config(experiment, values)
    except UserError as error:  # two values that do not go together
        say(f"{path} failed: {error}")
        (run_dir / path).mkdir(exist_ok=True)
        note_failure(run_dir / path, error=str(error))
        trial.study.tell(trial, state=TrialState.FAIL)
        return
    callbacks = functools.partial(_pruning, str(run_dir), experiment.plain, trial._trial_id)
    own = own_code.sources(config.plain)
    has_begun = (run_dir / path).exists()  # a new fit that is refused leaves nothing
    arguments = (config.plain, has_begun, own, callbacks)
    job = Job(path=path, function=run_fit, arguments=arguments, is_finished=False)
    status = run_job(job, run_dir)
    value = math.nan if status else read_metrics(run_dir / path).get(monitor, math.nan)
    if status == ENDED_EARLY:
        trial.study.tell(trial, state=TrialState.PRUNED)
    elif math.isfinite(value):
        trial.study.tell(trial, value)
    else:
        say_failed(path, run_dir, status)
        trial.study.tell(trial, state=TrialState.FAIL)


def trial_config(experiment: Config, values: Mapping[str, Any]) -> Config:
    """Return the config of a fit of the sweep.

    Raises:
        UserError: The values do not go together.
    """
    plain = {k: v for k, v in experiment.plain.items() if k not in ("sweep", "comparison")}
    return load_config(plain, *({key: value} for key, value in values.items()))


def _pruning(run_dir: str, plain: Mapping[str, Any], trial_id: int) -> "list[Callback]":
    """Make the callback that reports to the search, in the process of the fit."""
    from optuna.trial import Trial

    from experiments.callbacks.pruning import Pruning
    from experiments.studies.sweep_storage import open_study

    experiment = load_config(plain)
    study = open_study(Path(run_dir), experiment)
    return [Pruning(Trial(study, trial_id), experiment.trainer.monitor)]

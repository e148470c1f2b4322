"""Report a sweep: a table of all fits, the importance of each setting, a figure, and the winner."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from experiments.config import own_code
from experiments.config.messages import show
from experiments.config.root import Config
from experiments.console import print_table, say
from experiments.errors import RunError, writing
from experiments.studies.compare_runs import compare_runs
from experiments.studies.sweep_figure import draw
from experiments.studies.sweep_storage import folder, open_study, remove_locks, short, values_of
from experiments.training import checkpoint, run_directory
from experiments.training.build import restore
from experiments.training.fit import Result

SHOWN = 10
"""Number of fits in the printed table and in the comparison."""


def report(experiment: Config, run_dir: Path) -> Result:
    """Write `sweep.csv`, `sweep.png` and the comparison of the best fits, and print the best of them.

    Raises:
        RunError: No fit finished.
    """
    study = open_study(run_dir, experiment)
    remove_locks(run_dir)
    trials = study.get_trials()[: experiment.sweep.trials]
    monitor = experiment.trainer.monitor
    finished = [t for t in trials if t.state == TrialState.COMPLETE]
    if not finished:
        raise RunError(f"none of the {len(trials)} fits finished; see {run_dir}")
    sign = 1 if experiment.trainer.monitor_mode == "min" else -1
    finished.sort(key=lambda t: sign * (t.value or 0.0))
    best = finished[0]
    importance = importances(study, finished)
    _write(experiment, run_dir, trials)
    with writing(run_dir / "sweep.png"):
        draw(experiment, finished, importance, run_dir / "sweep.png")
    print_table(_table(experiment, finished, run_dir))
    counts = {"finished": len(finished)}
    counts["ended early"] = sum(t.state == TrialState.PRUNED for t in trials)
    counts["failed"] = sum(t.state == TrialState.FAIL for t in trials)
    say(", ".join(f"{count} {what}" for what, count in counts.items() if count))
    if importance:
        say("importance: " + ", ".join(f"{key} {share:.2f}" for key, share in importance.items()))
    where = shlex.join([str(run_dir), *own_code.options()])
    say(
        f"best by {monitor}: {folder(best)}, {best.value:.5g}\n"
        f"train it again:  python -m experiments.compare {where} --best --retrain 0,1,2\n"
        f"written:         {run_dir}/sweep.csv, sweep.png, comparison.md"
    )
    compare_runs([run_dir / folder(t) for t in finished[:SHOWN]], run_dir, experiment.comparison)
    best_file = run_dir / folder(best) / "checkpoints" / "best.ckpt"
    return Result(
        metrics=run_directory.read_metrics(run_dir / folder(best)),
        run_dir=run_dir,
        module=restore(checkpoint.load(best_file), best_file).module,
        children={folder(t): run_dir / folder(t) for t in finished},
    )


def importances(study: optuna.Study, finished: Sequence[FrozenTrial]) -> Mapping[str, float]:
    """Return the share of each setting in the variance of the metric (fANOVA, Hutter et al. 2014).

    It is empty if there is nothing to explain: fewer than two fits, or equal values.
    """
    if len({t.value for t in finished}) < 2:
        return {}
    return optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )


def _write(experiment: Config, run_dir: Path, trials: Sequence[FrozenTrial]) -> None:
    """Write every trial with its settings, its state and its value."""
    keys = experiment.sweep.keys
    rows: list[list[object]] = [["trial", "state", *keys, experiment.trainer.monitor]]
    for trial in trials:
        values = values_of(trial, experiment)
        ended = trial.value if trial.state == TrialState.COMPLETE else ""
        rows.append([folder(trial), trial.state.name.lower(), *(values.get(k, "") for k in keys), ended])
    run_directory.write_csv(run_dir / "sweep.csv", rows)


def _table(experiment: Config, finished: Sequence[FrozenTrial], run_dir: Path) -> Table:
    keys = experiment.sweep.keys
    title = f"The best {min(SHOWN, len(finished))} of {len(finished)} fits by {experiment.trainer.monitor}"
    table = Table("trial", *keys, experiment.trainer.monitor, title=title, title_justify="left")
    for trial in finished[:SHOWN]:
        values = values_of(trial, experiment)
        table.add_row(folder(trial), *(show(short(values[key])) for key in keys), f"{trial.value:.5g}")
    return table

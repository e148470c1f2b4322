"""Read finished runs into a comparison, and write it as CSV, Markdown and a figure."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from experiments.config.check import comparison_of
from experiments.config.comparison import ComparisonConfig
from experiments.config.sources import read_file
from experiments.errors import UserError, writing
from experiments.studies.comparison import Comparison, Group, matching
from experiments.studies.finished_runs import find_runs, group_names, monitored, read_run
from experiments.training import run_directory
from experiments.training.checkpoint_path import similar
from experiments.training.curve_file import read_curves


def compare_runs(
    runs: Sequence[Path],
    output: Path | None = None,
    settings: ComparisonConfig | None = None,
    *,
    columns: Sequence[str] | None = None,
    curves: Sequence[str] | None = None,
) -> Comparison:
    """Read run and study directories into one comparison.

    Args:
        runs: Runs, studies, or folders of them at any depth.
        output: Folder for `comparison.csv`, `comparison.md` and `comparison.png`; None writes nothing.
        settings: What the table and the figure show; None for the settings that a single study has saved,
            or else the defaults.
        columns: Names or patterns (`val/*`) of the metrics in the table and the figure, instead of those of
            the settings.
        curves: Names or patterns (`train/*`) of the curves in the figure, instead of those of the settings.

    Raises:
        UserError: A directory is missing, no run is found, no run has metrics, or no metric is in
            `columns`.
    """
    for path in runs:
        if not path.is_dir():
            raise UserError(f"{path}: no such directory{similar(path)}")
    found = list({run.resolve(): run for path in runs for run in find_runs(path)}.values())
    where = ", ".join(map(str, runs))
    if not found:
        raise UserError(f"no run directory (with a metrics.json) in {where}")
    read = [read_run(path) for path in found]
    names = list(dict.fromkeys(name for run in read for name in run.metrics))
    if not names:
        raise UserError(f"none of the {len(found)} runs in {where} has metrics in its metrics.json")
    settings = settings or _saved_settings(runs)
    if columns is not None:
        settings = dataclasses.replace(settings, columns=list(columns), panels=None)
    if curves is not None:
        settings = dataclasses.replace(settings, curves=list(curves))
    shown = matching(names, settings.columns)
    if not shown:
        wanted = ", ".join(settings.columns)
        raise UserError(f"no metric matches {wanted}; there are {', '.join(sorted(names))}")
    panels = shown if settings.panels is None else matching(names, settings.panels)
    groups: dict[str, Group] = {}
    for run, name in zip(read, group_names(found), strict=True):
        groups.setdefault(name, Group(name=name)).runs.append(run)
    if settings.columns == ComparisonConfig().columns:
        shown = _with_validation(shown, names)
    comparison = Comparison(groups=list(groups.values()), columns=shown)
    choose(comparison)
    if output is not None:
        write_comparison(comparison, output, settings, panels)
    return comparison


def _with_validation(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Put the validation metric of the same name before each metric of the test."""
    pairs = [
        [name.replace("test", "val", 1), name] if name.startswith("test") else [name] for name in columns
    ]
    return [name for pair in pairs for name in pair if name in names]


def choose(comparison: Comparison) -> None:
    """Name the fit that is best by the validation metric that all fits monitored; baselines are left aside.

    There is no choice between fewer than two fits, or if they monitored different metrics.
    """
    monitors = {group.name: {monitored(run.path) for run in group.runs} for group in comparison.groups}
    fits = [group for group in comparison.groups if None not in monitors[group.name]]
    found = set().union(*(monitors[group.name] for group in fits))
    if len(found) != 1 or len(fits) < 2:
        return
    ((metric, mode),) = (pair for pair in found if pair is not None)
    complete = [group for group in fits if group.complete(metric)]
    if complete:
        best = (min if mode == "min" else max)(complete, key=lambda group: group.mean(metric))
        comparison.winner, comparison.monitor = best.name, metric


def _saved_settings(runs: Sequence[Path]) -> ComparisonConfig:
    """Read the settings of a single study from its config; the defaults for anything else."""
    saved = runs[0] / "config.yaml"
    return comparison_of(read_file(saved)) if len(runs) == 1 and saved.is_file() else ComparisonConfig()


def write_comparison(
    comparison: Comparison, output: Path, settings: ComparisonConfig, panels: Sequence[str]
) -> None:
    """Write `comparison.csv` (every metric), `comparison.md` and `comparison.png` to a folder.

    The picture of a single fit shows training beside validation.
    """
    from experiments.studies.comparison_figure import draw  # matplotlib takes a second to import
    from experiments.studies.fit_figure import draw_fit

    rows: list[list[object]] = [["variant", "metric", "mean", "std", "runs", "failed", "best", "values"]]
    for group in comparison.groups:
        failed = sum(run.failure is not None for run in group.runs)
        for metric in sorted({name for run in group.runs for name in run.metrics}) or [""]:
            mean, std = (_blank_if_nan(value) for value in (group.mean(metric), group.std(metric)))
            values = " ".join(repr(run.metrics[metric]) for run in group.runs if metric in run.metrics)
            best = int(comparison.is_best(group, metric))
            rows.append([group.name, metric, mean, std, len(group.runs), failed, best, values])
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    run_directory.write_text(output / "comparison.md", comparison.markdown())
    runs = [run for group in comparison.groups for run in group.runs]
    own = settings.curves != ComparisonConfig().curves
    if len(runs) == 1 and not own and any(name.startswith("val/") for name in read_curves(runs[0].path)):
        draw_fit(runs[0], output / "comparison.png")
    else:
        draw(comparison, output / "comparison.png", settings, panels)
    run_directory.write_csv(output / "comparison.csv", rows)  # the last file: with it a study is finished


def _blank_if_nan(value: float) -> str:
    return "" if math.isnan(value) else repr(value)

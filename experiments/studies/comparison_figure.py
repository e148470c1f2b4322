"""Draw a comparison: mean ± spread of each metric with a dot for each run, and the logged curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.config.comparison import ComparisonConfig
from experiments.studies.comparison import Comparison, matching
from experiments.studies.figures import save
from experiments.training.curve_file import read_curves

MAX_PANELS = 6  # For final metrics, and again for curves: more would be too small to read.
PER_ROW = 3
WIDTH = 45  # Characters of a legend that fit below a panel.
OWN_AXES = ("position", "class", "confidence")
"""What a curve such as `recall_by_class` is drawn over, whatever `comparison.x` says."""
Curve = list[tuple[float, float]]
Curves = dict[str, Curve]
"""The curves of a run by name."""


def draw(comparison: Comparison, path: Path, settings: ComparisonConfig, metrics: Sequence[str]) -> None:
    """Write a PNG with a panel for each final metric, and then one for each curve of the settings.

    A group has the same colour in all panels. A group without a curve, such as a baseline, is a dashed line
    at its final value of the same name.
    """
    metrics = metrics[:MAX_PANELS]
    lines = _panels_of_lines(comparison, settings)
    rows = max(1, math.ceil((len(metrics) + len(lines)) / PER_ROW))
    per_row = max(1, math.ceil((len(metrics) + len(lines)) / rows))
    height = 1.2 + 0.3 * len(comparison.groups)
    figure = Figure(figsize=(4.5 * per_row, rows * max(3.0, height)), layout="constrained")
    for number, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(rows, per_row, number)
        _draw_metric(axes, comparison, metric)
        axes.tick_params(axis="y", labelleft=number % per_row == 1 % per_row)
    first: Axes | None = None
    fullest: tuple[Axes, int] | None = None
    for number, panel in enumerate(lines, start=len(metrics) + 1):
        axes = figure.add_subplot(rows, per_row, number, sharey=first)
        first = first or (axes if settings.share_y else None)
        _draw_curves(axes, panel.groups)
        _draw_levels(axes, panel)
        if panel.x == "confidence":
            axes.plot([0, 100], [0, 1], color="black", linestyle=":", label="calibrated")
        _scale(axes, settings, panel.x)
        axes.set_title(literal(panel.title))
        labels = len(axes.get_legend_handles_labels()[1])
        if labels > (fullest[1] if fullest else 0):
            fullest = axes, labels
    if fullest:  # one legend for all, where it covers no curve: in the free place, or else below
        shown = fullest[0].get_legend_handles_labels()
        has_place = rows * per_row > len(metrics) + len(lines)
        columns = max(1, per_row * WIDTH // (4 + max(map(len, shown[1]))))
        where: dict[str, Any] = (
            {"loc": "lower right"} if has_place else {"loc": "outside lower center", "ncols": columns}
        )
        figure.legend(*shown, fontsize="small", **where)
    save(figure, path)


@dataclass(frozen=True, kw_only=True)
class _Lines:
    """A panel of lines: a curve of each run of each group, and what its horizontal axis is."""

    title: str
    x: str
    groups: Mapping[str, list[Curve]]
    levels: Mapping[str, float] = field(default_factory=dict)  # final values of groups without curves


def _panels_of_lines(comparison: Comparison, settings: ComparisonConfig) -> list[_Lines]:
    axes = [settings.x] if isinstance(settings.x, str) else settings.x
    over = {
        x: {group.name: _curves([run.path for run in group.runs], x) for group in comparison.groups}
        for x in ("step", *axes)
    }
    names = {name for runs in over["step"].values() for run in runs for name in run}
    without_curves = [group for group in comparison.groups if not any(over["step"][group.name])]
    panels = [
        _Lines(
            title=f"{family}, {point} point",
            x="layer",
            groups={
                name: [_over_layers(run, family, at) for run in runs] for name, runs in over["step"].items()
            },
        )
        for family in settings.by_layer
        if matching(names, [f"{family}/*"])
        for point, at in (("first", 0), ("last", -1))
    ]
    panels += [
        _Lines(
            title=metric,
            x=x,
            groups={
                name: [run.get(metric, []) for run in runs]
                for name, runs in over.get(x, over["step"]).items()
            },
            levels={group.name: group.mean(metric) for group in without_curves if group.values(metric)},
        )
        for metric in matching(names, settings.curves)
        for x in _axes_of(metric, axes)
    ]
    return panels[:MAX_PANELS]


def _axes_of(metric: str, axes: Sequence[str]) -> Sequence[str]:
    """Return what a curve is drawn over: the axis in its name, or else those of the settings."""
    own = metric.rpartition("_by_")[2]
    return [own] if own in OWN_AXES else axes


def _curves(runs: list[Path], x: str) -> list[Curves]:
    """Read the curves of a group's runs over steps, epochs or seconds."""
    if x == "second":
        return _over_seconds([finite_curves(run) for run in runs])
    return [finite_curves(run, x) for run in runs]


def spans_decades(values: Iterable[float]) -> bool:
    """Return whether values are all above 0 and the largest is at least 100 times the smallest."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) >= 100 * min(finite)


def finite_curves(run: Path, x: str = "step") -> Curves:
    """Read the curves of a run as (x, value) pairs, one for each x; infinite values become NaN, a gap."""
    curves: Curves = {}
    for name, curve in read_curves(run, x).items():
        values: dict[int, list[float]] = {}
        for place, value in curve:
            values.setdefault(place, []).append(value if math.isfinite(value) else math.nan)
        curves[name] = [(place, fmean(found)) for place, found in values.items()]
    return curves


def _over_layers(run: Curves, family: str, at: int) -> Curve:
    """Return the first (0) or last (−1) point of `family/01`, `family/02` and so on: (layer, value) pairs."""
    names = matching(run, [f"{family}/*"])
    return [(layer, run[name][at][1]) for layer, name in enumerate(names, start=1)]


def _over_seconds(runs: list[Curves]) -> list[Curves]:
    """Replace the steps of a group's curves by seconds of training, the mean over its runs.

    A run without `train/steps_per_second` has no curves over seconds.
    """
    timed = [run for run in runs if run.get("train/steps_per_second")]

    def seconds(curve: Curve) -> list[float]:
        steps = np.array([step for step, _ in curve])
        return list(np.mean([_seconds(steps, run["train/steps_per_second"]) for run in timed], axis=0))

    return [
        {
            name: list(zip(seconds(curve), (value for _, value in curve), strict=True))
            for name, curve in run.items()
        }
        for run in timed
    ]


def _seconds(steps: np.ndarray, rates: Curve) -> np.ndarray:
    """Return the seconds of training until each step; a rate holds for the steps since the one before."""
    points, per_second = np.array(rates).T
    passed = np.cumsum(np.diff(points, prepend=0) / per_second)
    beyond = np.maximum(0, steps - points[-1]) / per_second[-1]
    return np.interp(steps, [0, *points], [0, *passed]) + beyond


def _colour(number: int) -> tuple[float, ...]:
    """Return one of 20 colours: ten strong ones, and then a light one of each."""
    return tuple(colormaps["tab20"](2 * (number % 10) + number // 10 % 2))


def _draw_metric(axes: Axes, comparison: Comparison, metric: str) -> None:
    for row, group in enumerate(comparison.groups):
        values, colour = group.values(metric), _colour(row)
        if not values:
            axes.text(
                0.5, row, group.text(metric), transform=axes.get_yaxis_transform(), ha="center", va="center"
            )
            continue
        spread = group.std(metric)
        error = None if math.isnan(spread) else spread
        axes.errorbar(group.mean(metric), row, xerr=error, fmt="|", color=colour, capsize=4, markersize=14)
        axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.5, markersize=5)
    axes.set_yticks(range(len(comparison.groups)), [literal(group.name) for group in comparison.groups])
    axes.set_ylim(len(comparison.groups) - 0.5, -0.5)  # The first group is on top, as in the table.
    axes.set_title(literal(metric))
    axes.grid(axis="x", alpha=0.3)
    if spans_decades(value for group in comparison.groups for value in group.values(metric)):
        axes.set_xscale("log")
    else:
        axes.ticklabel_format(axis="x", useOffset=False)
    axes.tick_params(axis="x", rotation=30)


def _draw_curves(axes: Axes, groups: Mapping[str, list[Curve]]) -> None:
    """Draw a thin line for each run, and a thick line for the mean at the steps that all runs share.

    A mean that lies on an earlier one is dashed, so that both can be seen.
    """
    earlier: list[tuple[list[float], np.ndarray]] = []
    for number, (name, runs) in enumerate(groups.items()):
        drawn = [dict(curve) for curve in runs if curve]
        for curve in drawn:
            axes.plot(list(curve), list(curve.values()), color=_colour(number), alpha=0.3, linewidth=1)
        common = sorted(set.intersection(*(set(curve) for curve in drawn))) if drawn else []
        if common:
            mean = np.mean([[curve[step] for step in common] for curve in drawn], axis=0)
            covered = sum(steps == common and np.allclose(mean, other, atol=0) for steps, other in earlier)
            earlier.append((common, mean))
            axes.plot(
                common,
                mean,
                marker="." if len(common) <= 50 and not covered else "",
                linestyle=(0, (3, 3 * covered)) if covered else "-",
                color=_colour(number),
                linewidth=2,
                label=literal(name),
            )
    axes.grid(alpha=0.3)


def _draw_levels(axes: Axes, panel: _Lines) -> None:
    """Draw a dashed line at the final value of each group that has no curves."""
    for number, name in enumerate(panel.groups):
        if name in panel.levels:
            axes.axhline(panel.levels[name], color=_colour(number), linestyle="--", label=literal(name))


def _scale(axes: Axes, settings: ComparisonConfig, x: str) -> None:
    axes.set_xlabel(x)
    if settings.log_x:
        axes.set_xscale("log")
    heights = [y for line in axes.lines for y in np.asarray(line.get_ydata(), dtype=float).tolist()]
    if settings.log_y or spans_decades(heights):
        axes.set_yscale("log")


def literal(text: str) -> str:
    """Escape dollar signs, which matplotlib reads as mathematics, and shorten a name to the panel's width."""
    return (text if len(text) <= 40 else text[:39] + "…").replace("$", r"\$")

"""Draw a sweep: the validation metric over each setting, and how important each setting is."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from experiments.config.messages import show
from experiments.config.root import Config
from experiments.config.sweep import Dimension
from experiments.studies.comparison_figure import PER_ROW, literal, spans_decades
from experiments.studies.figures import save
from experiments.studies.sweep_storage import values_of

MAX_PANELS = 8  # of settings; the most important ones
WIDTH = 35  # of a panel, in characters


def draw(
    experiment: Config, finished: Sequence[FrozenTrial], importance: Mapping[str, float], path: Path
) -> None:
    """Write a PNG with a panel for each setting, a dot for each fit, and a panel of the importance.

    Args:
        experiment: The sweep.
        finished: The fits that finished, the best one first.
        importance: The importance of each setting; if it is empty, its panel is left out.
        path: The file.
    """
    order = list(importance)
    dimensions = sorted(
        experiment.sweep.dimensions, key=lambda d: order.index(d.key) if d.key in order else len(order)
    )[:MAX_PANELS]
    panels = len(dimensions) + bool(importance)
    rows = math.ceil(panels / PER_ROW)
    per_row = math.ceil(panels / rows)
    figure = Figure(figsize=(4.5 * per_row, 3.4 * rows), layout="constrained")
    for number, dimension in enumerate(dimensions, start=1):
        axes = figure.add_subplot(rows, per_row, number)
        _draw_setting(axes, experiment, dimension, finished)
        axes.set_ylabel(experiment.trainer.monitor if number % per_row == 1 % per_row else "")
    if importance:
        axes = figure.add_subplot(rows, per_row, panels)
        axes.barh(list(importance), list(importance.values()), color="tab:gray")
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_title("importance")
    figure.suptitle("Each dot is a fit; the star is the best one")
    save(figure, path)


def _draw_setting(
    axes: Axes, experiment: Config, dimension: Dimension, finished: Sequence[FrozenTrial]
) -> None:
    """Draw the metric of each fit over one setting; the best fit is a star."""
    chosen = [values_of(trial, experiment)[dimension.key] for trial in finished]
    heights = [float(trial.value or 0.0) for trial in finished]
    if dimension.values:  # one place for each value of a list
        places = [float(list(dimension.values).index(value)) for value in chosen]
        names = [literal(show(value)) for value in dimension.values]
        turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if sum(map(len, names)) > WIDTH else {}
        axes.set_xticks(range(len(names)), names, **turned)
        axes.set_xlim(-0.5, len(dimension.values) - 0.5)
    else:
        places = [float(value) for value in chosen]
        if dimension.log:
            axes.set_xscale("log")
    axes.plot(places[1:], heights[1:], "o", color="tab:blue", alpha=0.6)
    axes.plot(places[:1], heights[:1], "*", color="tab:red", markersize=14)
    if spans_decades(heights):
        axes.set_yscale("log")
    axes.set_title(dimension.key)
    axes.grid(alpha=0.3)

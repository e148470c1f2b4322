"""Draw one fit: training and validation in two colours, and the value of the test."""

import math
from pathlib import Path

from matplotlib.figure import Figure

from experiments.studies.comparison_figure import MAX_PANELS, PER_ROW, finite_curves, spans_decades
from experiments.studies.figures import save
from experiments.studies.finished_runs import Run

COLOURS = {"train": "tab:blue", "val": "tab:orange"}
LEGEND = {"train": "training", "val": "validation"}


def draw_fit(run: Run, path: Path) -> None:
    """Write a PNG with a panel for each validation metric, the loss first."""
    curves = finite_curves(run.path)
    names = [name.removeprefix("val/") for name in curves if name.startswith("val/")]
    names = sorted(dict.fromkeys(names), key=lambda name: name != "loss")[:MAX_PANELS]
    rows = max(1, math.ceil(len(names) / PER_ROW))
    per_row = max(1, math.ceil(len(names) / rows))
    figure = Figure(figsize=(4.0 * per_row, 3.0 * rows), layout="constrained")
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, per_row, number)
        for stage, colour in COLOURS.items():
            curve = curves.get(f"{stage}/{name}", [])
            marker = "." if len(curve) <= 50 else ""
            if curve:
                steps, values = zip(*curve, strict=True)
                axes.plot(steps, values, marker=marker, color=colour, label=LEGEND[stage])
        tested = run.metrics.get(f"test/{name}", math.nan)
        if math.isfinite(tested):
            axes.axhline(tested, color="black", linestyle=":", label=f"test, {tested:.4g}")
        heights = [value for stage in COLOURS for _, value in curves.get(f"{stage}/{name}", [])]
        if spans_decades(heights):
            axes.set_yscale("log")
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save(figure, path)

"""Draw a column of a table of `docs/results.json` to `docs/pictures/TABLE.png`.

    python docs/figure.py mnist accuracy

A dot is a row's figure, and a bar its spread. Rows without a number are left out.
"""

import re
import runpy
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.studies.figures import save

DOCS = Path(__file__).resolve().parent


def numbers(cell: str) -> tuple[float, float] | None:
    """Return the mean and the spread of a cell such as `99.56 ± 0.08`; the spread of one run is 0."""
    match = re.match(r"([\d.,]+)(?: ± ([\d.]+))?", cell)
    return (float(match[1].replace(",", "")), float(match[2] or 0)) if match else None


def draw(results: Any, table: str, column: str) -> Figure:
    """Draw one column of a table, its first row on top."""
    rows = {name: row[column] for name, row in results.figures[table].items() if numbers(row[column])}
    figure = Figure(figsize=(6.5, 1.1 + 0.36 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, cell in enumerate(rows.values()):
        mean, spread = numbers(cell) or (0.0, 0.0)
        axes.errorbar(mean, place, xerr=spread, fmt="o", color="tab:blue", capsize=4)
        axes.annotate(
            str(cell), (mean, place), (0, 6), textcoords="offset points", ha="center", fontsize="small"
        )
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.8)
    axes.margins(x=0.12)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.set_xlabel(results.tables[table]["columns"][column])
    axes.grid(axis="x", alpha=0.3)
    return figure


def main(arguments: list[str]) -> None:
    """Draw the picture that the command line names."""
    table, column = arguments
    results = runpy.run_path(str(DOCS / "render.py"))["Results"]()
    save(draw(results, table, column), DOCS / "pictures" / f"{table}.png")


if __name__ == "__main__":
    main(sys.argv[1:])

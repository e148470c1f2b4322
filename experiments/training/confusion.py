"""The confusion matrix of the test set: one file in a run directory, and the sum over several runs."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.training.run_directory import write_csv

FILE = "test_confusion.csv"


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts of (true, predicted) pairs.

    Attributes:
        class_names: Names of the K classes.
        counts: K rows, one for each true class, of K counts, one for each predicted class.
    """

    class_names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def write(self, folder: Path) -> None:
        """Write the table to a run directory."""
        rows = ([name, *row] for name, row in zip(self.class_names, self.counts, strict=True))
        write_csv(folder / FILE, [["true \\ predicted", *self.class_names], *rows])

    def markdown(self) -> str:
        """Return the matrix as a Markdown table, with the share of each true class that was recognised."""
        lines = [["true \\ predicted", *self.class_names, "recognised"]]
        lines.append(["---", *("---:" for _ in (*self.class_names, ""))])
        for place, (name, row) in enumerate(zip(self.class_names, self.counts, strict=True)):
            share = f"{100 * row[place] / sum(row):.1f} %" if sum(row) else "–"
            lines.append([name, *(f"{count:,}" for count in row), share])
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read_confusion(folder: Path) -> Confusion | None:
    """Read the matrix of a run directory; `None` if there is no readable file."""
    try:
        with (folder / FILE).open(encoding="utf-8", newline="") as file:
            (_, *names), *rows = csv.reader(file)
        counts = tuple(tuple(int(count) for count in row) for _, *row in rows)
    except (OSError, ValueError):
        return None
    square = len(counts) == len(names) and all(len(row) == len(names) for row in counts)
    return Confusion(class_names=tuple(names), counts=counts) if square else None


def pooled(folders: Sequence[Path]) -> Confusion | None:
    """Return the sum over runs, such as the folds of a cross-validation; `None` unless all classes agree."""
    tables = [read_confusion(folder) for folder in folders]
    found = [table for table in tables if table is not None]
    if len(found) < max(1, len(tables)) or len({table.class_names for table in found}) > 1:
        return None
    names = found[0].class_names
    places = range(len(names))
    sums = tuple(tuple(sum(table.counts[i][j] for table in found) for j in places) for i in places)
    return Confusion(class_names=names, counts=sums)

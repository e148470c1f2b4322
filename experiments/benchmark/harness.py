"""Shared by all benchmarks: interleaved timing, and a report as a table and as JSON.

A time depends on the machine and on what else runs at that moment. So the alternatives of a comparison are
measured in turns (A B A B …), all values are kept, and ratios are taken turn by turn: a disturbance in one
turn slows both sides of its ratio.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.console import print_table
from experiments.errors import writing
from experiments.training.machine import describe_machine, describe_revision
from experiments.training.run_directory import write_text


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one quantity, in order of measurement."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the measurements."""
        return statistics.fmean(self.values)

    @property
    def median(self) -> float:
        """Median of the measurements."""
        return statistics.median(self.values)

    @property
    def std(self) -> float:
        """Sample standard deviation (n − 1); NaN for a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def ratio_to(self, baseline: "Sample") -> "Sample":
        """Return measurement i divided by the baseline's measurement i, for each turn i.

        Raises:
            ValueError: The numbers of measurements differ, so the turns do not match.
        """
        if len(self.values) != len(baseline.values):
            raise ValueError(f"{len(self.values)} measurements against the baseline's {len(baseline.values)}")
        return Sample(tuple(ours / theirs for ours, theirs in zip(self.values, baseline.values, strict=True)))

    def scaled(self, factor: float) -> "Sample":
        """Return the same measurements in another unit."""
        return Sample(tuple(factor * value for value in self.values))

    def inverse(self, factor: float = 1.0) -> "Sample":
        """Return `factor` divided by each measurement: speeds from times, or times from speeds."""
        return Sample(tuple(factor / value for value in self.values))

    def __str__(self) -> str:
        if len(self.values) == 1 or math.isnan(self.std):
            return f"{self.mean:.4g}"
        decimals = max(0, 2 - math.floor(math.log10(abs(self.mean)))) if self.mean else 2
        return f"{self.mean:.{decimals}f} ± {self.std:.{decimals}f}"


Cell = Sample | float | int | str | None


@dataclass(kw_only=True)
class Report:
    """The result of a benchmark: rows of named cells, and notes that explain them."""

    title: str
    rows: list[dict[str, Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def columns(self) -> list[str]:
        """Return the columns of all rows, in order of first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def show(self, console: Console) -> None:
        """Print the table, then the notes."""
        table = Table(title=self.title, title_justify="left")
        for number, name in enumerate(self.columns()):
            table.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*(_text(row.get(name)) for name in self.columns()))
        print_table(table, console)
        for note in self.notes:
            console.print(note, markup=False)

    def write(self, path: Path, command: Sequence[str]) -> None:
        """Write the report as JSON, with all measurements and a description of the machine."""
        rows = [{name: _plain(cell) for name, cell in row.items()} for row in self.rows]
        content = {
            "title": self.title,
            "rows": rows,
            "notes": self.notes,
            "command": list(command),
            **describe_revision(),
            "machine": describe_machine(),
        }
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _text(cell: Cell) -> str:
    if cell is None:
        return "n/a"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _plain(cell: Cell) -> Any:
    """Convert a cell for JSON. NaN and infinity become null, because JSON lacks them."""
    if isinstance(cell, Sample):
        values = [_plain(value) for value in cell.values]
        return {
            "mean": _plain(cell.mean),
            "std": _plain(cell.std),
            "median": _plain(cell.median),
            "values": values,
        }
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def timed(call: Callable[[], object], *, calls: int = 1) -> Callable[[], float]:
    """Return a measurement for `interleaved`: mean seconds of `calls` calls, work on the device included."""

    def measure() -> float:
        start = device_clock()
        for _ in range(calls):
            call()
        return (device_clock() - start) / calls

    return measure


def device_clock() -> float:
    """Read the clock in seconds, once the device has done all work that it was given."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


def interleaved(
    measurements: Mapping[str, Callable[[], float]], *, repeats: int, warmup: int = 1
) -> dict[str, Sample]:
    """Measure each alternative once per turn.

    Args:
        measurements: By name, a function that returns one measurement (see `timed`).
        repeats: Number of recorded turns.
        warmup: Number of warm-up turns, in which caches are built, kernels are chosen and threads start.
    """
    values: dict[str, list[float]] = {name: [] for name in measurements}
    for turn in range(warmup + repeats):
        for name, measure in measurements.items():
            value = measure()
            if turn >= warmup:
                values[name].append(value)
    return {name: Sample(tuple(taken)) for name, taken in values.items()}


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Return batches of one epoch after the other."""
    while True:
        yield from loader


def positive(text: str) -> int:
    """Parse an integer ≥ 1; a type for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer ≥ 1")
    return int(text)

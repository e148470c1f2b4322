"""What every benchmark shares: interleaved timing, and one report as a table and as JSON.

A time means little away from the machine and the minute it was taken in. So the alternatives of one
comparison are measured in turns (A B A B …), each keeps all its values, and ratios are taken turn by turn:
what slows one turn slows both of its sides.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.training.machine import describe_machine, describe_revision


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one quantity, in the order they were taken."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def std(self) -> float:
        """Sample standard deviation (n − 1); NaN for a single value, which has no spread."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def ratio_to(self, baseline: "Sample") -> "Sample":
        """Turn by turn, how many times the baseline this is: measurement i over the baseline's measurement i.

        Raises:
            ValueError: the two were not measured equally often, so they have no common turns.
        """
        if len(self.values) != len(baseline.values):
            raise ValueError(f"{len(self.values)} measurements against the baseline's {len(baseline.values)}")
        return Sample(tuple(ours / theirs for ours, theirs in zip(self.values, baseline.values, strict=True)))

    def scaled(self, factor: float) -> "Sample":
        """The same measurements in another unit."""
        return Sample(tuple(factor * value for value in self.values))

    def __str__(self) -> str:
        if len(self.values) == 1 or math.isnan(self.std):
            return f"{self.mean:.4g}"
        decimals = max(0, 2 - math.floor(math.log10(abs(self.mean)))) if self.mean else 2
        return f"{self.mean:.{decimals}f} ± {self.std:.{decimals}f}"


Cell = Sample | float | int | str | None


@dataclass(kw_only=True)
class Report:
    """What a benchmark found: rows of named cells, and what a reader must know to judge them."""

    title: str
    rows: list[dict[str, Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def columns(self) -> list[str]:
        """Every column that some row has, in order of first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def show(self, console: Console) -> None:
        """Print the table, then the notes."""
        table = Table(title=self.title, title_justify="left")
        for number, name in enumerate(self.columns()):
            table.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*(_text(row.get(name)) for name in self.columns()))
        console.print(table)
        for note in self.notes:
            console.print(note, markup=False)

    def write(self, path: Path, command: Sequence[str]) -> None:
        """Write everything, each single measurement too, with the machine it was taken on."""
        rows = [{name: _plain(cell) for name, cell in row.items()} for row in self.rows]
        content = {
            "title": self.title,
            "rows": rows,
            "notes": self.notes,
            "command": list(command),
            **describe_revision(),
            "machine": describe_machine(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)


def _text(cell: Cell) -> str:
    if cell is None:
        return "n/a"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _plain(cell: Cell) -> Any:
    """JSON has no NaN and no infinity: both become null."""
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
    """A measurement for `interleaved`: seconds per call over `calls` calls, work on the device included."""

    def measure() -> float:
        _wait_for_device()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        _wait_for_device()
        return (time.perf_counter() - start) / calls

    return measure


def _wait_for_device() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.accelerator.is_available():
        torch.accelerator.synchronize()


def interleaved(
    measurements: Mapping[str, Callable[[], float]], *, repeats: int, warmup: int = 1
) -> dict[str, Sample]:
    """Measure each alternative once a turn, for `repeats` turns after `warmup` unrecorded ones.

    Args:
        measurements: name → a call that returns its own figure (see `timed`).
        repeats: recorded turns.
        warmup: turns thrown away: first calls build caches, pick kernels and start threads.
    """
    values: dict[str, list[float]] = {name: [] for name in measurements}
    for turn in range(warmup + repeats):
        for name, measure in measurements.items():
            value = measure()
            if turn >= warmup:
                values[name].append(value)
    return {name: Sample(tuple(taken)) for name, taken in values.items()}


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)

"""Compare two run directories bit by bit, except for what measures time."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from experiments.training import checkpoint
from experiments.training.run_lock import LOCK, OWNER

MEASURED = ("fit_seconds", "per_second", "flop_utilisation", "peak_memory_mb")
"""Parts of the names of metrics that measure the machine."""


def differences(reference: Path, other: Path, *, only: tuple[str, ...] = ()) -> list[str]:
    """Return a line for each difference; empty if the runs are equal.

    Compares the names of the files, all checkpoints (weights, optimizer, schedule, counters, random states,
    callbacks), the curves and the metrics. A study or a chain is compared with all its fits.

    Args:
        reference: The run directory of the run that was not interrupted.
        other: The run directory to compare.
        only: Compare only these entries of the checkpoints and the final metrics.
    """
    found = list(_leftovers(other))
    names = [{p.relative_to(run) for p in run.rglob("*") if _is_result(p)} for run in (reference, other)]
    found += [f"{name} is in one run only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        if name.suffix == ".csv" and only:
            continue
        values = [_read(run / name) for run in (reference, other)]
        if only and name.suffix == ".ckpt":
            values = [{key: value[key] for key in only} for value in values]
        found += [f"{name}{place}" for place in _unequal(*values)]
    return found


def _is_result(path: Path) -> bool:
    return path.suffix in (".ckpt", ".json", ".csv") and path.name != "environment.json"


def _leftovers(run: Path) -> Iterator[str]:
    """Yield what a kill may leave behind and a finished run must not have.

    A fit of a study that is killed after its last file leaves `.lock` and `.owner`. They lock nothing: the
    lock has ended with its process.
    """
    for path in run.rglob("*"):
        if path.name in (LOCK, OWNER):
            continue
        if path.name.startswith(".") or "damaged" in path.name or path.name == "failed.json":
            yield f"{path.relative_to(run)} is left behind"


def _read(path: Path) -> Any:
    if path.suffix == ".ckpt":
        return checkpoint.load(path)
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    measured = {column for column, name in enumerate(rows[0]) if any(m in name for m in MEASURED)}
    return [
        [cell for column, cell in enumerate(row) if column not in measured]
        for row in rows
        if not any(name in cell for cell in row[1:] for name in MEASURED)
    ]


def _unequal(first: Any, second: Any, place: str = "") -> Iterator[str]:
    """Yield the places at which two values of plain data and tensors differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in {**first, **second}:
            if key == "config" or any(name in str(key) for name in MEASURED):
                continue
            if key not in first or key not in second:
                yield f"{place}.{key} is in one run only"
            else:
                yield from _unequal(first[key], second[key], f"{place}.{key}")
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            yield from _unequal(a, b, f"{place}[{index}]")
    elif isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.dtype != second.dtype or not torch.equal(first, second):
            yield f"{place}: tensors differ"
    elif first != second and not (first != first and second != second):  # NaN equals NaN here
        yield f"{place}: {str(first)[:80]} and {str(second)[:80]}"

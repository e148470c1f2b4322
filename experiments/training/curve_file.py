"""Read `metrics.csv`: one row for each logged value. `curve_log.py` writes it."""

import csv
from pathlib import Path

from datamodules.assets.ordinary_files import check_ordinary
from experiments.errors import UserError

CURVE_HEADER = ("step", "epoch", "name", "value")


def read_curve_rows(path: Path) -> list[list[str]]:
    """Return the rows of a `metrics.csv` without its header, damaged rows, and a row that a kill cut off.

    Raises:
        UserError: The system cannot read the file.
    """
    return _read(path)[0]


def is_damaged_curve(path: Path) -> bool:
    """Return whether the header or a row is damaged; a last row that a kill cut off is no damage.

    Raises:
        UserError: The system cannot read the file.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[list[list[str]], bool]:
    """Return the undamaged rows, and whether the header or a row is damaged.

    Raises:
        UserError: The system cannot read the file.
    """
    try:
        check_ordinary(path)
        whole, _, _ = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    header, *rows = [_cells(line) for line in whole.split("\n")]
    good = [row for row in rows if len(row) == len(CURVE_HEADER) and _has_numbers(row)]
    return good, len(good) < len(rows) or (bool(whole) and header != [*CURVE_HEADER])


def _cells(line: str) -> list[str]:
    """Return the cells of a line. Each is read alone: a damaged quote would swallow the lines after it."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _has_numbers(row: list[str]) -> bool:
    step, epoch, _, value = row
    try:
        float(value)
    except ValueError:
        return False
    return step.isdecimal() and (epoch.isdecimal() or not epoch) and max(map(len, (step, epoch))) <= 18


def read_curves(run_dir: Path, x: str = "step") -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) or (epoch, value) pairs by logged name; empty where there is no `metrics.csv`.

    A curve by position has the position in the column `step`.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    if (run_dir / "metrics.csv").is_file():
        for step, epoch, name, value in read_curve_rows(run_dir / "metrics.csv"):
            place = int(epoch or 0) + 1 if x == "epoch" else int(step)
            curves.setdefault(name, []).append((place, float(value)))
    return curves

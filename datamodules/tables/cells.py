"""Read the cells of a table as text, from a CSV or a Parquet file."""

import csv
import importlib.util
from pathlib import Path
from typing import IO, Any, NamedTuple

from datamodules.assets.ordinary_files import check_ordinary

MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}
"""Cells that count as missing, in lower case."""


class Line(NamedTuple):
    """A row of a table."""

    place: str  # where it is in the file, for messages
    cells: list[str]


class Cells(NamedTuple):
    """A table of text; a column without a name is called by its number, from 1."""

    names: list[str]
    lines: list[Line]


def read_cells(path: Path, *, header: bool | None = None, delimiter: str = ",") -> Cells:
    """Read a CSV file, or a Parquet file (suffix `.parquet` or `.pq`).

    Args:
        path: The file.
        header: Whether a CSV file begins with names; None: it does if no cell of line 1 is a number.
        delimiter: The character between two cells of a CSV file.

    Raises:
        ValueError: The file is missing or malformed.
    """
    check_ordinary(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}, and no table of that name")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return _checked(_read_parquet(path), str(path))
        with path.open(encoding="utf-8-sig", newline="") as file:
            return read_csv(file, str(path), header=header, delimiter=delimiter)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error


def read_csv(file: IO[str], name: str, *, header: bool | None = None, delimiter: str = ",") -> Cells:
    """Read an open CSV file, and call it `name` in messages; empty lines are left out.

    Raises:
        ValueError: The file is malformed.
    """
    try:
        reader = csv.reader(file, delimiter=delimiter)
        found = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name} is not a CSV file in UTF-8: {error}") from error
    if not found:
        raise ValueError(f"{name} is empty")
    lines = [Line(f"{name}, line {number}", cells) for number, cells in found]
    first = [cell.strip() for cell in lines[0].cells]
    first[0] = first[0].removeprefix("\ufeff")  # of standard input
    if header is None:
        header = not any(is_missing(cell) or is_number(cell) for cell in first)
    names = first if header else [str(i + 1) for i in range(len(first))]
    return _checked(Cells(names, lines[1:] if header else lines), name)


def is_missing(cell: str) -> bool:
    """Return whether a cell has no value."""
    return cell.strip().lower() in MISSING


def is_number(cell: str) -> bool:
    """Return whether a cell is a finite number."""
    try:
        return "_" not in cell and abs(float(cell)) < float("inf")
    except ValueError:
        return False


def _read_parquet(path: Path) -> Cells:
    if importlib.util.find_spec("pyarrow") is None:
        raise ValueError(f"{path}: a Parquet file needs the package pyarrow; run `pip install pyarrow`")
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(path)
        columns = [[_text(value) for value in column.to_pylist()] for column in table.columns]
    except ArrowException as error:
        raise ValueError(f"{path} is not a Parquet file: {str(error).splitlines()[0]}") from error
    lines = [
        Line(f"{path}, row {row}", list(cells)) for row, cells in enumerate(zip(*columns, strict=True), 1)
    ]
    return Cells(list(table.column_names), lines)


def _text(value: Any) -> str:
    """Write a value so that `float` reads the same number; booleans become 1 or 0."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _checked(cells: Cells, name: str) -> Cells:
    if twice := next((column for column in cells.names if cells.names.count(column) > 1), None):
        raise ValueError(f"{name}: two columns are named {twice!r}; each needs its own name")
    for line in cells.lines:
        if len(line.cells) != len(cells.names):
            raise ValueError(f"{line.place} has {len(line.cells)} cells; expected {len(cells.names)}")
    if not cells.lines:
        raise ValueError(f"{name} has a header but no rows")
    return cells

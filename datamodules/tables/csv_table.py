"""Read a table from a CSV file, and name the line and the column of what is wrong.

A column without a name is called by its number, from 1.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from datamodules.assets.ordinary_files import check_ordinary
from datamodules.configs.table import TableConfig
from datamodules.tables.table_rows import TableRows

MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}
"""Cells that count as missing, in lower case."""
MOST_CLASSES = 20
"""The largest number of different whole numbers that are taken for classes."""

Line = tuple[int, list[str]]
"""The number of a line in the file, and its cells."""


def read_csv(path: Path, config: TableConfig) -> TableRows:
    """Read a CSV file.

    Raises:
        ValueError: The file or a cell of it is wrong; names the line and the column.
    """
    names, lines = _read_lines(path, config)
    target = _target_column(names, config, path)
    left_out = {_column(names, name, "data.ignore", path) for name in config.ignore}
    if target in left_out:
        raise ValueError(f"data.ignore names the target column {names[target]!r}; predict another column")
    columns = [i for i in range(len(names)) if i != target and i not in left_out]
    if not columns:
        raise ValueError(
            f"{path} has no column beside the target {names[target]!r}; check data.delimiter, which is "
            f"{config.delimiter!r}"
        )
    for number, cells in lines:
        if _is_missing(cells[target]):
            raise ValueError(
                f"{path}, line {number}: the target {names[target]!r} is missing; remove the line"
            )
    features = [
        [_feature(path, number, names[i], cells[i], config) for i in columns] for number, cells in lines
    ]
    words = [cells[target].strip() for _, cells in lines]
    class_names: tuple[str, ...] = ()
    if config.task == "classes" or (config.task == "auto" and _are_classes(words)):
        class_names = _class_names(words)
        if len(class_names) < 2:
            raise ValueError(f"{path}: all rows have the class {words[0]!r}; two classes are needed")
        index = {name: i for i, name in enumerate(class_names)}
        targets = torch.tensor([index[_class_name(word)] for word in words])
    else:
        values = [_number(path, number, names[target], cells[target]) for number, cells in lines]
        targets = torch.tensor(values, dtype=torch.float64).unsqueeze(1)
    return TableRows(
        feature_names=tuple(names[i] for i in columns),
        target_names=(names[target],),
        features=torch.tensor(features, dtype=torch.float64),
        targets=targets,
        class_names=class_names,
    )


def _read_lines(path: Path, config: TableConfig) -> tuple[list[str], list[Line]]:
    """Return the names of the columns and the lines below the header; empty lines are left out."""
    check_ordinary(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}, and no table of that name")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=config.delimiter)
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    if not lines:
        raise ValueError(f"{path} is empty")
    first = [cell.strip() for cell in lines[0][1]]
    header = config.header
    if header is None:
        header = not any(_is_missing(cell) or _is_number(cell) for cell in first)
    names = first if header else [str(i + 1) for i in range(len(first))]
    lines = lines[1:] if header else lines
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{path}: two columns are named {twice!r}; each needs its own name")
    for number, cells in lines:
        if len(cells) != len(names):
            raise ValueError(f"{path}, line {number} has {len(cells)} cells; expected {len(names)}")
    if not lines:
        raise ValueError(f"{path} has a header but no rows")
    return names, lines


def _target_column(names: Sequence[str], config: TableConfig, path: Path) -> int:
    return len(names) - 1 if config.target is None else _column(names, config.target, "data.target", path)


def _column(names: Sequence[str], name: str | int, key: str, path: Path) -> int:
    """Return the index of a column by its name or, if no column has it, by its number from 1."""
    if str(name) in names:
        return names.index(str(name))
    if isinstance(name, int) and 1 <= name <= len(names):
        return name - 1
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    raise ValueError(f"{key} = {name!r}: {path} has no such column; it has {shown}")


def _feature(path: Path, number: int, name: str, cell: str, config: TableConfig) -> float:
    if _is_missing(cell):
        if config.missing == "mean":
            return math.nan
        raise ValueError(
            f"{path}, line {number}, column {name!r}: the value is missing; fill it in, or set "
            "data.missing=mean for the column's mean"
        )
    return _number(path, number, name, cell)


def _number(path: Path, number: int, name: str, cell: str) -> float:
    if not _is_number(cell):
        raise ValueError(
            f"{path}, line {number}, column {name!r}: {cell.strip()[:40]!r} is not a finite number; "
            f"correct it, or leave the column out with data.ignore=[{name}]"
        )
    return float(cell)


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def _is_number(cell: str) -> bool:
    try:
        return "_" not in cell and math.isfinite(float(cell))
    except ValueError:
        return False


def _are_classes(words: Sequence[str]) -> bool:
    """Tell whether the targets are words, or at most `MOST_CLASSES` different whole numbers."""
    if not all(_is_number(word) for word in words):
        return True
    values = {float(word) for word in words}
    return len(values) <= MOST_CLASSES and all(value.is_integer() for value in values)


def _class_name(word: str) -> str:
    """Return one name for all spellings of a number, such as 1 and 1.0."""
    return f"{float(word):.17g}" if _is_number(word) else word


def _class_names(words: Sequence[str]) -> tuple[str, ...]:
    """Return the different classes: numbers in their order, then words."""
    names = {_class_name(word) for word in words}
    return tuple(sorted(names, key=lambda n: (not _is_number(n), float(n) if _is_number(n) else 0.0, n)))

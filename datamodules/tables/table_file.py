"""Read a table from a file; errors name the line and the column.

A column without a name is called by its number, from 1.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from datamodules.configs.table import TableConfig
from datamodules.tables.cells import Line, is_missing, is_number, read_cells
from datamodules.tables.table_rows import TableRows

MOST_CLASSES = 20
"""The largest number of different whole numbers that are taken for classes."""


def read_table(path: Path, config: TableConfig) -> TableRows:
    """Read a CSV or Parquet file.

    Raises:
        ValueError: The file or a cell of it is wrong; names the line and the column.
    """
    names, lines = read_cells(path, header=config.header, delimiter=config.delimiter)
    target, columns = _columns(names, config, path)
    if config.missing == "drop":
        used = [target, *columns]
        lines = [line for line in lines if not any(is_missing(line.cells[i]) for i in used)]
        if not lines:
            raise ValueError(f"{path}: every line has a missing value; leave a column out with data.ignore")
    for place, cells in lines:
        if is_missing(cells[target]):
            raise ValueError(
                f"{place}: the target {names[target]!r} is missing; remove the line, or set data.missing=drop"
            )
    _check_words(names, lines, columns, config, path)
    features = [[feature(line, names[i], i, config.missing) for i in columns] for line in lines]
    words = [cells[target].strip() for _, cells in lines]
    class_names: tuple[str, ...] = ()
    if config.task == "classes" or (config.task == "auto" and _are_classes(words)):
        class_names = _class_names(words)
        if len(class_names) < 2:
            raise ValueError(f"{path}: all rows have the class {words[0]!r}; two classes are needed")
        index = {name: i for i, name in enumerate(class_names)}
        targets = torch.tensor([index[_class_name(word)] for word in words])
    else:
        values = [_number(line, names[target], target) for line in lines]
        targets = torch.tensor(values, dtype=torch.float64).unsqueeze(1)
    return TableRows(
        feature_names=tuple(names[i] for i in columns),
        target_names=(names[target],),
        features=torch.tensor(features, dtype=torch.float64),
        targets=targets,
        class_names=class_names,
    )


def feature(line: Line, name: str, column: int, missing: str) -> float:
    """Return the number in a column of a line; NaN if it is missing and `missing` is `"mean"`.

    Raises:
        ValueError: The cell is missing or not a number.
    """
    if not is_missing(line.cells[column]):
        return _number(line, name, column)
    if missing == "mean":
        return math.nan
    raise ValueError(
        f"{line.place}, column {name!r}: the value is missing; fill it in, or set data.missing=mean for the "
        "column's mean, or data.missing=drop to leave the line out"
    )


def _check_words(
    names: Sequence[str], lines: Sequence[Line], columns: Sequence[int], config: TableConfig, path: Path
) -> None:
    """Check that every feature column has a number in it; the error names all columns that have none."""
    found = {}
    for column in columns:
        cells = [line.cells[column] for line in lines if not is_missing(line.cells[column])]
        if cells and not any(is_number(cell) for cell in cells):
            found[names[column]] = cells[0].strip()[:40]
    if found:
        shown = ", ".join(f"{name!r} ({cell!r}, …)" for name, cell in found.items())
        ignore = ",".join(map(str, [*config.ignore, *found]))
        raise ValueError(
            f"{path}: a feature must be a number, but there is none in column {shown}; replace the words by "
            f"numbers, or leave the column out with data.ignore=[{ignore}]"
        )


def _columns(names: Sequence[str], config: TableConfig, path: Path) -> tuple[int, list[int]]:
    """Return the indices of the target column and of the feature columns."""
    target = len(names) - 1 if config.target is None else _column(names, config.target, "data.target", path)
    left_out = {_column(names, name, "data.ignore", path) for name in config.ignore}
    chosen = {_column(names, name, "data.columns", path) for name in config.columns} or set(range(len(names)))
    if target in left_out:
        raise ValueError(f"data.ignore names the target column {names[target]!r}; predict another column")
    if config.columns and target in chosen:
        raise ValueError(
            f"data.columns names the target column {names[target]!r}; a feature can't be the target"
        )
    columns = sorted(chosen - left_out - {target})
    if not columns:
        raise ValueError(
            f"{path} has no column beside the target {names[target]!r}; check data.delimiter, which is "
            f"{config.delimiter!r}"
        )
    return target, columns


def _column(names: Sequence[str], name: str | int, key: str, path: Path) -> int:
    """Return the index of a column by its name or, if no column has it, by its number from 1."""
    if str(name) in names:
        return names.index(str(name))
    if isinstance(name, int) and 1 <= name <= len(names):
        return name - 1
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    raise ValueError(f"{key} = {name!r}: {path} has no such column; it has {shown}")


def _number(line: Line, name: str, column: int) -> float:
    cell = line.cells[column]
    if not is_number(cell):
        raise ValueError(
            f"{line.place}, column {name!r}: {cell.strip()[:40]!r} is not a finite number; "
            f"correct it, or leave the column out with data.ignore=[{name}]"
        )
    return float(cell)


def _are_classes(words: Sequence[str]) -> bool:
    """Tell whether the targets are words, or at most `MOST_CLASSES` different whole numbers."""
    if not all(is_number(word) for word in words):
        return True
    values = {float(word) for word in words}
    return len(values) <= MOST_CLASSES and all(value.is_integer() for value in values)


def _class_name(word: str) -> str:
    """Return one name for all spellings of a number, such as 1 and 1.0."""
    return f"{float(word):.17g}" if is_number(word) else word


def _class_names(words: Sequence[str]) -> tuple[str, ...]:
    """Return the different classes: numbers in their order, then words."""
    names = {_class_name(word) for word in words}
    return tuple(sorted(names, key=lambda n: (not is_number(n), float(n) if is_number(n) else 0.0, n)))

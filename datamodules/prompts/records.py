"""Read CSV files so that every error can name the file and the line."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from datamodules.assets.ordinary_files import check_ordinary


@dataclass(frozen=True)
class Record:
    """One row of a file."""

    path: Path
    line: int  # number of the line, starting at 1
    values: tuple[str, ...]  # the fields, without surrounding spaces

    def error(self, what: str) -> ValueError:
        """Build the exception for a wrong value in this row."""
        return ValueError(f"{self.path}:{self.line}: {what}")

    def check_choice(self, name: str, value: str, literal: object) -> None:
        """Check that a field has one of the values of a `Literal`.

        Raises:
            ValueError: The value is not allowed.
        """
        if value not in get_args(literal):
            raise self.error(f"{name} is {value!r}, allowed: {', '.join(get_args(literal))}")


def read_records(path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> list[Record]:
    """Read the rows of a CSV file in UTF-8. Empty lines and a byte order mark are skipped.

    The first line must name `columns`; only those in `optional` may be empty.

    Raises:
        ValueError: The file is missing or has no rows, its columns are wrong, or a row is malformed.
    """
    try:
        check_ordinary(path)
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        before = error.object[: error.start].count(b"\n")
        raise ValueError(f"{path}:{before + 1}: not UTF-8") from error
    reader = csv.reader(text.splitlines(), strict=True)
    found = []
    try:
        for row in reader:
            record = Record(path, reader.line_num, tuple(value.strip() for value in row))
            if any(record.values):
                found.append(record)
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: not CSV: {error}") from error
    if not found or found[0].values != tuple(columns):
        raise ValueError(f"{path}: the first line must be {','.join(columns)}")
    for record in found[1:]:
        if len(record.values) != len(columns):
            raise record.error(f"{len(record.values)} fields, expected {len(columns)}: {', '.join(columns)}")
        for name, value in zip(columns, record.values, strict=True):
            if not value and name not in optional:
                raise record.error(f"{name} is empty")
    if len(found) == 1:
        raise ValueError(f"{path} has no rows")
    return found[1:]

"""Small readable files of records, one a line, read so that an error can name file and line.

A record's fields are separated by `|`; empty lines and lines that start with `#` are skipped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args


@dataclass(frozen=True)
class Record:
    """One record and where it stands.

    Attributes:
        path: Its file.
        number: Its line, the first being 1.
        fields: Without the blanks around them.
    """

    path: Path
    number: int
    fields: tuple[str, ...]

    def error(self, what: str) -> ValueError:
        """To raise for something that is wrong with it."""
        return ValueError(f"{self.path}:{self.number}: {what}")

    def expect(self, *names: str, may_be_empty: Sequence[str] = ()) -> tuple[str, ...]:
        """The fields, if there are as many as names and none is empty that may not be.

        Raises:
            ValueError: There aren't, or one is.
        """
        if len(self.fields) != len(names):
            raise self.error(f"{len(self.fields)} fields, expected {len(names)}: {' | '.join(names)}")
        for name, value in zip(names, self.fields, strict=True):
            if not value and name not in may_be_empty:
                raise self.error(f"{name} is empty")
        return self.fields

    def choose(self, name: str, value: str, literal: object) -> None:
        """Check that a field's value is one of a `Literal`'s.

        Raises:
            ValueError: It is none of them.
        """
        if value not in get_args(literal):
            raise self.error(f"{name} is {value!r}, allowed: {', '.join(get_args(literal))}")


def read_records(path: Path) -> Iterator[Record]:
    """The records of a UTF-8 file.

    Raises:
        ValueError: It can't be read, or has none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        before = error.object[: error.start].count(b"\n")
        raise ValueError(f"{path}:{before + 1}: not UTF-8") from error
    found = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            found = True
            yield Record(path, number, tuple(part.strip() for part in line.split("|")))
    if not found:
        raise ValueError(f"{path} is empty")

from pathlib import Path
from typing import Literal

import pytest

from datamodules.prompts.records import Record, read_records


def test_records_know_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("# name | note\n\n  café |  # no comment\n   # one\nb||c d \n", encoding="utf-8")
    assert list(read_records(path)) == [
        Record(path, 3, ("café", "# no comment")),
        Record(path, 5, ("b", "", "c d")),
    ]


def test_fields_are_counted_and_not_empty_where_they_may_not_be(tmp_path: Path) -> None:
    record = Record(tmp_path / "a.txt", 7, ("x", ""))
    assert record.expect("name", "note", may_be_empty=["note"]) == ("x", "")
    with pytest.raises(ValueError, match=r"a\.txt:7: note is empty"):
        record.expect("name", "note")
    with pytest.raises(ValueError, match=r"a\.txt:7: 2 fields, expected 3: name \| note \| more"):
        record.expect("name", "note", "more")


def test_a_value_is_one_of_a_literals(tmp_path: Path) -> None:
    record = Record(tmp_path / "a.txt", 7, ("x",))
    record.choose("name", "x", Literal["x", "y"])
    with pytest.raises(ValueError, match=r"a\.txt:7: name is 'z', allowed: x, y"):
        record.choose("name", "z", Literal["x", "y"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"a\.txt is empty"),
        (b"# a\n\n", r"a\.txt is empty"),
        (b"a\nb \xff\n", r"a\.txt:2: not UTF-8"),
        (None, r"a\.txt can't be read: No such file"),
    ],
)
def test_says_why_there_are_no_records(content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        list(read_records(tmp_path / "a.txt"))

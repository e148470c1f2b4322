from pathlib import Path
from typing import Literal

import pytest

from datamodules.prompts.records import Record, read_records


def test_records_know_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('name,note\n\n café ,"a, b"\n , \n"say ""so""",\n', encoding="utf-8")
    assert read_records(path, ["name", "note"], optional=["note"]) == [
        Record(path, 3, ("café", "a, b")),
        Record(path, 5, ('say "so"', "")),
    ]


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name\nb\n", encoding="utf-8-sig")
    assert [record.values for record in read_records(tmp_path / "a.csv", ["name"])] == [("b",)]


def test_a_value_is_one_of_a_literals(tmp_path: Path) -> None:
    record = Record(tmp_path / "a.csv", 7, ("x",))
    record.check_choice("name", "x", Literal["x", "y"])
    with pytest.raises(ValueError, match=r"a\.csv:7: name is 'z', allowed: x, y"):
        record.check_choice("name", "z", Literal["x", "y"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"a\.csv: the first line must be name,note"),
        (b"name\nb,c\n", r"a\.csv: the first line must be name,note"),
        (b"name,note\n\n", r"a\.csv has no rows"),
        (b"name,note\nb,\xff\n", r"a\.csv:2: not UTF-8"),
        (b"name,note\nb,c\nd,\n", r"a\.csv:3: note is empty"),
        (b"name,note\nb,c,d\n", r"a\.csv:2: 3 fields, expected 2: name, note"),
        (b'name,note\nb,"c"d\n', r"a\.csv:2: not CSV"),
        (None, r"a\.csv cannot be read: No such file"),
    ],
)
def test_says_what_is_wrong_with_a_file(content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_records(tmp_path / "a.csv", ["name", "note"])

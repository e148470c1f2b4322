"""Pairs of texts from TSV and JSONL files, and what is wrong with a line."""

from pathlib import Path

import pytest

from datamodules.text.pair_files import read_pairs


def read(tmp_path: Path, content: str | bytes, name: str = "p.tsv") -> list[tuple[str, str]]:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_pairs(tmp_path / name)


def test_both_formats_give_the_same_pairs(tmp_path: Path) -> None:
    expected = [("cat", "le chat"), ("caf\u00e9 \u2028 x", "b")]
    assert read(tmp_path, "\ufeffsource\ttarget\r\ncat\tle chat \r\n\ncafe\u0301 \u2028 x\tb") == expected
    lines = (
        '{"source": "cat", "target": "le chat", "id": 3}\n{"target": "b", "source": "cafe\\u0301 \\u2028 x"}'
    )
    assert read(tmp_path, lines, "p.jsonl") == expected


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("a\tb\nc\n", "p.tsv", r"p\.tsv, line 2 has 1 cells; expected a source, a tab and a target"),
        ("a\tb\tc\n", "p.txt", "line 1 has 3 cells"),
        ("a\t \n", "p.tsv", "line 1: the target is empty"),
        ("\n\n", "p.tsv", "has no pairs"),
        ("source\ttarget\n", "p.tsv", "has no pairs"),
        (b"a\tb\xff\n", "p.tsv", "is not UTF-8: .* at byte 3"),
        ("{\n", "p.jsonl", "line 1 is not JSON"),
        ("[" * 100_000, "p.jsonl", "line 1 is not JSON"),
        ("[1]\n", "p.jsonl", "expected an object with source and target"),
        (
            '{"input": "a", "target": "b"}\n',
            "p.jsonl",
            "expected the texts source and target; it has input, target",
        ),
        ('{"source": 3, "target": "b"}\n', "p.jsonl", "line 1: source and target must be texts"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str | bytes, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content, name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.tsv can't be read: No such file"):
        read_pairs(tmp_path / "none.tsv")

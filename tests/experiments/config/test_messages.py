"""What a message shows of a config is short, on one line and printable."""

from typing import Any

import pytest

from experiments.config.messages import cut, escaped, nearest, show


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (0.5, "0.5"),
        ("a b", "'a b'"),
        ([1, None, "x"], "[1, null, 'x']"),
        ({"a": [True]}, "{'a': [true]}"),
        ("\x1b[31m\n", r"'\x1b[31m\n'"),
        ("\u202etxt", r"'\u202etxt'"),
    ],
)
def test_a_value_is_shown_as_a_config_would_write_it(value: Any, shown: str) -> None:
    assert show(value) == shown


def test_an_integer_that_python_does_not_write_is_described() -> None:
    assert show(10**5000) == "an integer of 16610 bits"


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, [1] * 10**6, ["y" * 99] * 1000, {str(i): i for i in range(10**5)}, {"a": "z" * 999}],
)
def test_a_long_value_is_cut(value: Any) -> None:
    shown = show(value)
    assert len(shown) <= 100
    assert "…" in shown


def test_a_text_is_cut_in_the_middle_and_escaped() -> None:
    assert cut("short") == "short"
    assert cut("a" * 60 + "b" * 60, 20) == "a" * 14 + "…" + "b" * 5
    assert escaped("ä\té\x00") == r"ä\té\x00"


def test_the_nearest_name_is_suggested_unless_the_word_is_long() -> None:
    assert nearest("chanse", ["chance", "width"]) == " (did you mean chance?)"
    assert nearest("zzz", ["chance"]) == ""
    assert nearest("chance" * 100_000, ["chance"]) == ""

"""The strict reader of pronouncing dictionaries."""

from pathlib import Path

import pytest

from datamodules.text.pronunciation_dictionary import (
    drop_stress,
    parse_dictionary,
    read_dictionary,
    without_stress,
)

SAMPLE = """
;;; an older version's comment
# a newer one's
'bout B AW1 T
a AH0
a(2) EY1   # the letter

Aalborg AO1 L B AO0 R G # place, danish
aalborg(2)  AA1 L B AO0 R G
bo-shek B OW1 SH EH1 K
"""


def test_words_and_their_alternatives() -> None:
    assert parse_dictionary(SAMPLE.splitlines()) == {
        "'bout": (("B", "AW1", "T"),),
        "a": (("AH0",), ("EY1",)),
        "aalborg": (("AO1", "L", "B", "AO0", "R", "G"), ("AA1", "L", "B", "AO0", "R", "G")),
        "bo-shek": (("B", "OW1", "SH", "EH1", "K"),),
    }


def test_equal_pronunciations_are_one() -> None:
    assert parse_dictionary(["a AH0", "a(2) EY1", "a(3) AH0"]) == {"a": (("AH0",), ("EY1",))}
    assert drop_stress({"a": (("AH0",), ("AH1",), ("EY1",))}) == {"a": (("AH",), ("EY",))}
    assert [without_stress(p) for p in ("AH0", "EY2", "ZH")] == ["AH", "EY", "ZH"]


def test_symbols_may_be_those_of_any_language() -> None:
    expected = {"größe": (("ɡ", "ʁ", "øː", "s", "ə"),)}
    assert parse_dictionary(["Größe ɡ ʁ øː s ə"]) == expected
    assert parse_dictionary(["Gro\u0308ße ɡ ʁ øː s ə"]) == expected  # o and a diaeresis of its own


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a AH0", "b"], "line 2: 'b' has no phonemes"),
        (["a AH0", "b # B IY1"], "line 2: 'b' has no phonemes"),
        (["a AH3"], "line 1: 'AH3' is not a phoneme; .*stress 0, 1 or 2"),
        (["a AH0 1"], "line 1: '1' is not a phoneme"),
        (["a AH00"], "line 1: 'AH00' is not a phoneme"),
        (["", "a AH0", "", "A EY1"], r"line 4: 'A' is already in line 2; .* such as a\(2\)"),
        (["a AH0", "a(2) EY1", "a(2) EY2"], r"line 3: 'a\(2\)' is already in line 2"),
        (["b(2) B IY1", "b B"], r"line 1: 'b\(2\)' comes before 'b'"),
        (["(2) B IY1"], r"line 1: '\(2\)' is not a word"),
        (["b(two) B IY1"], r"line 1: 'b\(two\)' is not a word"),
        (["b( B IY1"], r"line 1: 'b\(' is not a word"),
        ([], "has no words"),
        (["# nothing", "  "], "has no words"),
    ],
)
def test_a_malformed_line_is_reported_with_its_number(lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_dictionary(lines, name="my.dict")


def test_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "my.dict"
    file.write_text("a AH0\r\nb\r\n")
    with pytest.raises(ValueError, match=r"my\.dict, line 2: 'b' has no phonemes"):
        read_dictionary(file)
    file.write_bytes("a AH0\ndéjà D EY1 ZH AA2\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"my\.dict, line 2: not UTF-8"):
        read_dictionary(file)
    with pytest.raises(ValueError, match="can't be read: No such file"):
        read_dictionary(tmp_path / "none.dict")
    with pytest.raises(ValueError, match="can't be read"):
        read_dictionary(tmp_path)

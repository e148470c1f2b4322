"""The strict reader of pronouncing dictionaries."""

import os
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
        (["new york N UW1 Y AO1 R K"], "line 1: 'york' after 'new' is not a phoneme of ARPAbet, .* new-york"),
        (["a AH0", "NEW YORK  N UW1 Y AO1 R K"], "line 2: 'YORK' after 'NEW' is not a phoneme of ARPAbet"),
        (["tomato, T AH0 M EY1"], "line 1: 'tomato,' is not a word; expected one word"),
        (["tomato,T AH0 M EY1"], "line 1: 'tomato,T' is not a word"),
        (["tomato;T AH0 M EY1"], "line 1: 'tomato;T' is not a word"),
        (["grey,gray G R EY1"], "line 1: 'grey,gray' is not a word"),
        (['"a" AH0'], "line 1: '\"a\"' is not a word"),
        (["a AH0, EY1"], "line 1: 'AH0,' is not a phoneme"),
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
    with pytest.raises(ValueError, match="can't be read: No such file"):
        read_dictionary(tmp_path / "none.dict")
    with pytest.raises(ValueError, match="can't be read"):
        read_dictionary(tmp_path)


CLASSIC = """
;;; # CMUdict, version 0.7b
!EXCLAMATION-POINT  EH2 K S K L AH0 M EY1 SH AH0 N P OY2 N T
"CLOSE-QUOTE  K L OW1 Z K W OW1 T
#HASH-MARK  HH AE1 SH M AA1 R K
'ALLO  AA2 L OW1
(PAREN  P ER0 EH1 N
)PAREN  P ER0 EH1 N
,COMMA  K AA1 M AH0
...ELLIPSIS  IH2 L IH1 P S IH0 S
;SEMI-COLON  S EH1 M IY0 K OW1 L AH0 N
;SEMI-COLON(1)  S EH1 M IH0 K OW2 L AH0 N
A.M.  EY1 EH1 M
DÉJÀ  D EY2 ZH AA1
"""


def test_the_classic_dictionary_is_read(tmp_path: Path) -> None:
    file = tmp_path / "cmudict-0.7b"
    file.write_bytes(CLASSIC.replace("\n", "\r\n").encode("latin-1"))
    found = read_dictionary(file)
    assert list(found) == [
        *("!exclamation-point", '"close-quote', "#hash-mark", "'allo", "(paren", ")paren", ",comma"),
        *("...ellipsis", ";semi-colon", "a.m.", "déjà"),
    ]
    assert found["#hash-mark"] == (("HH", "AE1", "SH", "M", "AA1", "R", "K"),)
    assert len(found[";semi-colon"]) == 2


@pytest.mark.parametrize("first", ["cat K AE1 T", ";;; a comment", "# a comment"])
def test_a_byte_order_mark_is_dropped(tmp_path: Path, first: str) -> None:
    file = tmp_path / "my.dict"
    file.write_bytes(f"\ufeff{first}\ndog D AO1 G\n".encode())
    assert set(read_dictionary(file)) <= {"cat", "dog"}


@pytest.mark.parametrize(
    "data",
    [
        "a AH0\nd\xc3 D EY1\n".encode("latin-1") + "é EY1\n".encode(),  # UTF-8 with a lost byte
        "да D AA1\nне N Y EH1\n".encode("cp1251"),
        "a AH0\n".encode("utf-16"),
    ],
)
def test_other_encodings_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "my.dict").write_bytes(data)
    with pytest.raises(ValueError, match=r"my\.dict, line \d: not UTF-8 .*; convert the file"):
        read_dictionary(tmp_path / "my.dict")


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    (tmp_path / "my.dict").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ValueError, match=r"my\.dict is a Git LFS pointer"):
        read_dictionary(tmp_path / "my.dict")


def test_a_special_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match=r"it is a device|Is a directory"):
            read_dictionary(path)

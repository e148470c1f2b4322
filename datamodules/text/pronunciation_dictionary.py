"""Read a pronouncing dictionary in the format of the CMU Pronouncing Dictionary.

A line holds a word and its phonemes, separated by white space. More pronunciations of the same word follow on
lines of their own, marked by a number. The rest of a line after `#`, and a line that starts with `;;;`, are
comments:

    tomato T AH0 M EY1 T OW2
    tomato(2) T AH0 M AA1 T OW2   # British

A phoneme may end with the stress of its vowel: 0 none, 1 primary, 2 secondary. The classic version 0.7b
is read too: it is Latin-1, and some of its words start with a punctuation mark, such as `(PAREN`.
"""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from datamodules.assets.ordinary_files import check_ordinary

Phonemes = tuple[str, ...]
Dictionary = dict[str, tuple[Phonemes, ...]]
"""The pronunciations of each word, in the order of the file."""

_ARPABET = """
AA AE AH AO AW AX AXR AY B CH D DH DX EH EL EM EN ER EY F G H HH IH IX IY JH K L M N NG NX OW OY P Q R S SH T
TH UH UW UX V W WH Y Z ZH SIL SPN NSN
"""
"""Phonemes of English in capital letters, without their stress, and names of silence and noise."""
_COMMENT = re.compile(r"(^|\s)#(?!\S+(?:\s+[A-Z]{1,2}[012]?)+\s*$).*|^;;;.*")  # not `#SHARP  SH AA1 R P`
_LINE_END = re.compile(r"\r\n?|\n")
_WORD = re.compile(r"(\S[^\s()#,;:=|\"]*)(\(\d+\))?")
_PHONEME = re.compile(r"[^\s()#\d,;]+[012]?")


def read_dictionary(path: Path) -> Dictionary:
    """Read a dictionary file.

    Raises:
        ValueError: The file can't be read, is neither UTF-8 nor Latin-1, has a malformed line, or has no
            words. The message names the file and the line.
    """
    try:
        check_ordinary(path)
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = data.decode("latin-1")
        if not _is_latin1(text):
            line = data.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{path}, line {line}: not UTF-8 ({error.reason}); convert the file") from None
    return parse_dictionary(_LINE_END.split(text), name=str(path))


def _is_latin1(text: str) -> bool:
    """Tell whether words look right in Latin-1: accents are letters, and rarer than plain letters."""
    lines = [line for line in _LINE_END.split(text) if line.strip() and not line.startswith(";;;")]
    words = [line.split()[0] for line in lines]
    accents = [c for word in words for c in word if not c.isascii()]
    return "\0" not in text and all(map(str.isalpha, accents)) and 2 * len(accents) < sum(map(len, words))


def parse_dictionary(lines: Iterable[str], *, name: str = "dictionary") -> Dictionary:
    """Parse a dictionary's lines; words become lower-case, a letter and its accent one character (NFC).

    Raises:
        ValueError: A line is malformed, or there are no words.
    """
    found: dict[str, list[Phonemes]] = {}
    heads: dict[str, int] = {}
    known: set[str] = set()
    first: dict[str, str] = {}  # where a word starts with a phoneme
    for number, line in enumerate(lines, start=1):
        if not (entry := _COMMENT.sub("", line).split()):
            continue
        place, head, phonemes = (
            f"{name}, line {number}",
            unicodedata.normalize("NFC", entry[0]).lower(),
            tuple(entry[1:]),
        )
        if (parts := _WORD.fullmatch(head)) is None:
            raise ValueError(
                f"{place}: {entry[0]!r} is not a word; expected one word, with a number in brackets for "
                "another pronunciation, such as tomato(2), and then spaces"
            )
        if head in heads:
            raise ValueError(
                f"{place}: {entry[0]!r} is already in line {heads[head]}; give another pronunciation its own "
                f"number, such as {parts[1]}(2)"
            )
        if parts[2] and parts[1] not in found:
            raise ValueError(f"{place}: {entry[0]!r} comes before {parts[1]!r}; put the plain word first")
        if not phonemes:
            raise ValueError(f"{place}: {entry[0]!r} has no phonemes; expected a word and its phonemes")
        wrong = next((p for p in phonemes if p not in known and _PHONEME.fullmatch(p) is None), None)
        if wrong is not None:
            raise ValueError(
                f"{place}: {wrong!r} is not a phoneme; expected letters, and after a vowel its stress 0, 1 "
                "or 2, such as AH0"
            )
        known.update(phonemes)
        first.setdefault(phonemes[0], f"{place}: {phonemes[0]!r} after {entry[0]!r}")
        heads[head] = number
        found.setdefault(parts[1], []).append(phonemes)
    if not found:
        raise ValueError(f"{name} has no words; expected lines such as: tomato T AH0 M EY1 T OW2")
    _check_alphabet(known, first)
    return {word: tuple(dict.fromkeys(pronunciations)) for word, pronunciations in found.items()}


def _check_alphabet(known: set[str], first: dict[str, str]) -> None:
    """Find heads of two words, such as `new york N UW1 Y AO1 R K`, whose second word is not a phoneme."""
    others = {phoneme for phoneme in known if without_stress(phoneme) not in _ARPABET.split()}
    wrong = next((where for phoneme, where in first.items() if phoneme in others), None)
    if wrong is not None and 2 * len(others) < len(known):
        raise ValueError(
            f"{wrong} is not a phoneme of ARPAbet, which most of the dictionary uses; write a head of two "
            "words as one, such as new-york"
        )


def without_stress(phoneme: str) -> str:
    """Remove the stress: `"AH0"` → `"AH"`."""
    return phoneme.rstrip("012")


def drop_stress(dictionary: Dictionary) -> Dictionary:
    """Remove the stress from all pronunciations, and then duplicates."""
    return {
        word: tuple(dict.fromkeys(tuple(map(without_stress, phonemes)) for phonemes in pronunciations))
        for word, pronunciations in dictionary.items()
    }

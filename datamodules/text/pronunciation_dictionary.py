"""Reading a pronouncing dictionary in the format of Carnegie Mellon's.

A line is a word and its phonemes, parted by white space. Further pronunciations of a word stand on lines of
their own, marked by a number; what follows a `#`, and a line that starts with `;;;`, is a comment::

    tomato T AH0 M EY1 T OW2
    tomato(2) T AH0 M AA1 T OW2   # British

A phoneme may end with the stress of its vowel: 0 none, 1 primary, 2 secondary.
"""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

Phonemes = tuple[str, ...]
Dictionary = dict[str, tuple[Phonemes, ...]]
"""The pronunciations of each word, in the order of the file."""

_COMMENT = re.compile(r"(^|\s)#.*|^;;;.*")
_WORD = re.compile(r"([^\s()#]+)(\(\d+\))?")
_PHONEME = re.compile(r"[^\s()#\d]+[012]?")


def read_dictionary(path: Path) -> Dictionary:
    """Read a dictionary file.

    Raises:
        ValueError: It can't be read, is not UTF-8, has a line that is not as it should be, or has no words;
            names the file and the line.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8 ({error.reason}); convert the file") from None
    return parse_dictionary(text.splitlines(), name=str(path))


def parse_dictionary(lines: Iterable[str], *, name: str = "dictionary") -> Dictionary:
    """Read a dictionary's lines. Words become lower-case, accents part of their letters (NFC).

    Args:
        lines: Without their ends.
        name: What messages call it.

    Raises:
        ValueError: As `read_dictionary`.
    """
    found: dict[str, list[Phonemes]] = {}
    heads: dict[str, int] = {}
    known: set[str] = set()
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
                f"{place}: {entry[0]!r} is no word; expected letters, and behind them a number in brackets "
                "where it is a further pronunciation, such as tomato(2)"
            )
        if head in heads:
            raise ValueError(
                f"{place}: {entry[0]!r} stands in line {heads[head]} already; give a further pronunciation a "
                f"number of its own, such as {parts[1]}(2)"
            )
        if parts[2] and parts[1] not in found:
            raise ValueError(f"{place}: {entry[0]!r} comes before {parts[1]!r}; put the plain word first")
        if not phonemes:
            raise ValueError(f"{place}: {entry[0]!r} has no phonemes; expected a word and its phonemes")
        wrong = next((p for p in phonemes if p not in known and _PHONEME.fullmatch(p) is None), None)
        if wrong is not None:
            raise ValueError(
                f"{place}: {wrong!r} is no phoneme; expected letters, and behind a vowel its stress 0, 1 "
                "or 2, such as AH0"
            )
        known.update(phonemes)
        heads[head] = number
        found.setdefault(parts[1], []).append(phonemes)
    if not found:
        raise ValueError(f"{name} has no words; expected lines such as: tomato T AH0 M EY1 T OW2")
    return {word: tuple(dict.fromkeys(pronunciations)) for word, pronunciations in found.items()}


def without_stress(phoneme: str) -> str:
    """`"AH0"` → `"AH"`."""
    return phoneme.rstrip("012")


def drop_stress(dictionary: Dictionary) -> Dictionary:
    """The same words, whose pronunciations may have become equal and are then one."""
    return {
        word: tuple(dict.fromkeys(tuple(map(without_stress, phonemes)) for phonemes in pronunciations))
        for word, pronunciations in dictionary.items()
    }

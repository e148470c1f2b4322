"""Read a pronouncing dictionary in the format of the CMU Pronouncing Dictionary.

A line holds a word and its phonemes, separated by white space. More pronunciations of the same word follow on
lines of their own, marked by a number. The rest of a line after `#`, and a line that starts with `;;;`, are
comments:

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
        ValueError: The file can't be read, is not UTF-8, has a malformed line, or has no words. The message
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
    """Parse a dictionary's lines; words become lower-case, a letter and its accent one character (NFC).

    Raises:
        ValueError: A line is malformed, or there are no words.
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
                f"{place}: {entry[0]!r} is not a word; expected letters, with a number in brackets for "
                "another pronunciation, such as tomato(2)"
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
        heads[head] = number
        found.setdefault(parts[1], []).append(phonemes)
    if not found:
        raise ValueError(f"{name} has no words; expected lines such as: tomato T AH0 M EY1 T OW2")
    return {word: tuple(dict.fromkeys(pronunciations)) for word, pronunciations in found.items()}


def without_stress(phoneme: str) -> str:
    """Remove the stress: `"AH0"` → `"AH"`."""
    return phoneme.rstrip("012")


def drop_stress(dictionary: Dictionary) -> Dictionary:
    """Remove the stress from all pronunciations, and then duplicates."""
    return {
        word: tuple(dict.fromkeys(tuple(map(without_stress, phonemes)) for phonemes in pronunciations))
        for word, pronunciations in dictionary.items()
    }

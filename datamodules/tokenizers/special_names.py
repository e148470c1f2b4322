"""Find the names of special tokens in a text that arrives in chunks."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple


class Part(NamedTuple):
    """A part of a text: the name of a special token, or text without one."""

    offset: int  # position of its first character in the whole text
    text: str
    is_special: bool


def special_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that matches any of the names; longer names are tried first."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))


def split_special(chunks: Iterable[str], pattern: re.Pattern[str], longest: int) -> Iterator[Part]:
    """Split a text at its special tokens; a name that spans two chunks is found too.

    White space at the end of a chunk is held back, because it may belong to a name's pattern.

    Args:
        chunks: The text, in pieces of any length.
        pattern: The pattern of all names, perhaps with white space around them.
        longest: Length of the longest name.
    """
    pending, offset = "", 0
    for chunk, is_last in _marked_last(chunks):
        pending += chunk
        certain = len(pending) if is_last else len(pending[: max(0, len(pending) - longest)].rstrip())
        position = 0
        for match in pattern.finditer(pending):
            if match.start() >= certain or (match.end() == len(pending) and not is_last):
                break
            if match.start() > position:
                yield Part(offset + position, pending[position : match.start()], False)
            yield Part(offset + match.start(), match.group(), True)
            position = match.end()
        if certain > position:
            yield Part(offset + position, pending[position:certain], False)
            position = certain
        pending, offset = pending[position:], offset + position


def without_special(chunks: Iterable[str], names: Iterable[str]) -> Iterator[Iterator[str]]:
    """Yield the texts between special tokens, each in chunks; read each text to its end before the next."""
    names = list(names)
    if not names:
        yield iter(chunks)
        return
    parts = split_special(chunks, special_pattern(names), max(map(len, names)))
    for is_special, group in groupby(parts, key=lambda part: part.is_special):
        if not is_special:
            yield (part.text for part in group)


def _marked_last(chunks: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield each chunk, and an empty one at the end that is marked as the last."""
    for chunk in chunks:
        yield chunk, False
    yield "", True

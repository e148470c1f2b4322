r"""GPT-2's cut of a text into pieces, within which alone bytes are merged.

The pattern (Radford et al., 2019, `encoder.py`) takes, at each place, the first that fits of::

    's|'t|'re|'ve|'m|'ll|'d     an English ending
     ?\p{L}+                    letters, with the space before them
     ?\p{N}+                    digits and other numbers, likewise
     ?[^\s\p{L}\p{N}]+          anything else that isn't white, likewise
    \s+(?!\S)                   white space, but for its last character if something follows
    \s+                         white space

Python's `re` has no `\p{L}`. So each character beyond ASCII is first replaced by an ASCII one of its
class; the places found there are those of the text.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

_ENDINGS = "'(?:[stmd]|re|ve|ll)"
_GPT2 = re.compile(
    _ENDINGS + r"| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+",
    re.ASCII,  # \s is then what Unicode calls white space: \x1c … \x1f are not
)
_SINGLE_DIGITS = re.compile(  # a digit stands alone, and ends what is before it as the text's end would
    _ENDINGS + r"| ?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+|\s+(?![^\s0-9])|\s+",
    re.ASCII,
)
_WHITE_THEN_NOT = re.compile(r"\s\S", re.ASCII)
_LAST_WORD_END = re.compile(r"(?s:.*)\S(?=\s)", re.ASCII)
_WHITE = {0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
"""Unicode's White_Space beyond ASCII."""
_TAIL = 1 << 12


class _Classes(dict[int, str]):
    """One ASCII character for each code point: itself, or a letter, digit, space or mark of its class.

    Only what this Python's Unicode tables know is classed; younger characters count as marks.
    """

    def __missing__(self, point: int) -> str:
        if point < 128:
            return self.setdefault(point, chr(point))
        if point in _WHITE:
            return self.setdefault(point, "\n")
        kind = unicodedata.category(chr(point))[0]
        return self.setdefault(point, {"L": "a", "N": "0"}.get(kind, "!"))


_CLASSES = _Classes()


def split(text: str, *, individual_digits: bool = False) -> list[str]:
    """The pieces of a text, in order; joined, they are the text.

    Args:
        text: Any text.
        individual_digits: Cut out each digit first, and the rest between digits by the pattern.
    """
    pattern = _SINGLE_DIGITS if individual_digits else _GPT2
    if text.isascii():
        return pattern.findall(text)
    return [text[slice(*match.span())] for match in pattern.finditer(text.translate(_CLASSES))]


def at_boundaries(chunks: Iterable[str], *, individual_digits: bool = False) -> Iterator[str]:
    """A text in other chunks, which end where a piece ends whatever follows.

    Cut chunk by chunk, they give the pieces of the whole text. What is held back is short, unless a single
    piece is long.

    Args:
        chunks: The text.
        individual_digits: See `split`.
    """
    pending, enough = "", 0
    for chunk in chunks:
        pending += chunk
        if len(pending) < enough:
            continue
        cut = _last_boundary(pending, individual_digits)
        if cut:
            yield pending[:cut]
        pending = pending[cut:]
        enough = 0 if cut else 2 * len(pending)  # a piece of a megabyte must not be searched again and again
    if pending:
        yield pending


def _last_boundary(text: str, individual_digits: bool) -> int:
    """A late place where a piece ends for certain; 0 if there is none.

    No piece goes on from a character that isn't white to one that is. Where there is no such place, the last
    two pieces are held back: the pattern looks ahead by two characters at most, as in `'l` before `l`.
    The place must not lie behind white space either, which is cut otherwise when nothing follows.
    """
    start = max(0, len(text) - _TAIL)
    if found := _LAST_WORD_END.match(text[start:].translate(_CLASSES)):
        return start + found.end()
    pieces = split(text, individual_digits=individual_digits)
    cut = len(text) - sum(map(len, pieces[-2:]))
    for piece in reversed(pieces[:-2]):
        if not _WHITE_THEN_NOT.fullmatch(text[cut - 1 : cut + 1].translate(_CLASSES)):
            return cut
        cut -= len(piece)
    return 0

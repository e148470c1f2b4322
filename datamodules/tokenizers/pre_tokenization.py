r"""Split a text into pieces as GPT-2 does; bytes are merged only within a piece.

At each position the first alternative that matches is taken (Radford et al., 2019, `encoder.py`):

    's|'t|'re|'ve|'m|'ll|'d     an English ending
     ?\p{L}+                    letters, with a space before them
     ?\p{N}+                    digits and other numbers, with a space before them
     ?[^\s\p{L}\p{N}]+          anything else except white space, with a space before it
    \s+(?!\S)                   white space, except its last character if something follows
    \s+                         white space

Python's `re` has no `\p{L}`. Each character beyond ASCII is therefore replaced by an ASCII character of the
same class before the pattern is matched. The positions stay the same.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

_ENDINGS = "'(?:[stmd]|re|ve|ll)"
_GPT2 = re.compile(
    _ENDINGS + r"| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+",
    re.ASCII,  # without it, \s would match \x1c … \x1f, which are not white space in Unicode
)
_SINGLE_DIGITS = re.compile(  # a digit is a piece of its own, and white space before it ends as at the end
    _ENDINGS + r"| ?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+|\s+(?![^\s0-9])|\s+",
    re.ASCII,
)
_WHITE_THEN_NOT = re.compile(r"\s\S", re.ASCII)
_LAST_WORD_END = re.compile(r"(?s:.*)\S(?=\s)", re.ASCII)
_WHITE = {0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
"""Unicode's White_Space beyond ASCII."""
_TAIL = 1 << 12


class _Classes(dict[int, str]):
    """Maps each code point to an ASCII character of the same class: letter, digit, white space or mark.

    Characters that this Python's Unicode tables don't know count as marks.
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
    """Split a text into pieces; joined, they are the text.

    Args:
        text: Any text.
        individual_digits: Whether each digit is a piece of its own; the text between digits is split as
            usual.
    """
    pattern = _SINGLE_DIGITS if individual_digits else _GPT2
    if text.isascii():
        return pattern.findall(text)
    return [text[slice(*match.span())] for match in pattern.finditer(text.translate(_CLASSES))]


def at_boundaries(chunks: Iterable[str], *, individual_digits: bool = False) -> Iterator[str]:
    """Yield a text in new chunks; a piece is never split between two chunks.

    If each chunk is split on its own, the pieces are those of the whole text. Little text is held back,
    unless a piece is very long.
    """
    return regrouped(chunks, lambda text: _last_boundary(text, individual_digits))


def regrouped(chunks: Iterable[str], last_boundary: Callable[[str], int]) -> Iterator[str]:
    """Yield a text in new chunks that end at boundaries.

    `last_boundary` returns a late position where a text may be cut; 0 if there is none.
    """
    pending, enough = "", 0
    for chunk in chunks:
        pending += chunk
        if len(pending) < enough:
            continue
        cut = last_boundary(pending)
        if cut:
            yield pending[:cut]
        pending = pending[cut:]
        enough = 0 if cut else 2 * len(pending)  # search a very long piece only when it has doubled
    if pending:
        yield pending


def _last_boundary(text: str, individual_digits: bool) -> int:
    """Return a late position where a piece certainly ends; 0 if there is none.

    A piece never continues from a character that is not white space to one that is. If there is no such
    position, the last two pieces are held back: the pattern looks ahead by two characters at most, as in `'l`
    before `l`. The position must not follow white space either: at the end of a text white space is split
    differently.
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

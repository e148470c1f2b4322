"""Write text of any script on a picture: each character in a font of this machine that has it.

DejaVu Sans, part of Matplotlib, has the letters of most alphabets, but for example no Chinese characters.
"""

import importlib.util
import itertools
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

from experiments.console import say

Colour = tuple[int, int, int]
END_OF_LATIN = "\u0250"
"""DejaVu Sans has all characters before this one."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def default_file() -> Path:
    """Return the file of DejaVu Sans, without the import of Matplotlib, which takes a while."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _characters(path: Path) -> frozenset[int]:
    """Return the code points that a font file has; none if it cannot be read, or has bitmaps only."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(path))
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()


@cache
def _other_files() -> tuple[Path, ...]:
    """Return the font files of this machine; upright fonts without serifs first.

    Apple's Last Resort has a box for every character, so it is left out.
    """
    from matplotlib.font_manager import findSystemFonts

    def rank(path: Path) -> tuple[bool, bool, str]:
        return "sans" not in path.name.lower(), "regular" not in path.name.lower(), str(path)

    files = (Path(file) for file in findSystemFonts() if "lastresort" not in file.lower())
    return tuple(sorted(files, key=rank))


@cache
def file_with(character: str) -> Path | None:
    """Return a font file that has a character; `None` if this machine has none."""
    files = itertools.chain([default_file()], _other_files())
    return next((path for path in files if ord(character) in _characters(path)), None)


@cache
def _font(path: Path, size: int) -> Font:
    return ImageFont.truetype(str(path), size)


def pieces(text: str, size: int) -> Iterator[tuple[Font, str]]:
    """Split a text into pieces of one font each.

    Line ends and other control characters become spaces. A character that no font has becomes its number,
    such as `U+4E2D`, and a line says once what to install.
    """
    text = "".join(" " if c < " " else c for c in text)
    if all(c < END_OF_LATIN for c in text):
        yield _font(default_file(), size), text
        return
    missing = "".join(dict.fromkeys(c for c in text if not c.isspace() and file_with(c) is None))
    if missing:
        say_missing()
        text = "".join(f"U+{ord(c):04X}" if c in missing else c for c in text)
    for path, characters in itertools.groupby(text, lambda c: file_with(c) or default_file()):
        yield _font(path, size), "".join(characters)


@cache
def say_missing() -> None:
    """Say once what to install."""
    say(
        "the pictures show some characters by their numbers, because no font of this machine has them; "
        "install one, such as Noto Sans CJK for Chinese, Japanese and Korean (apt install fonts-noto-cjk)"
    )


def width(text: str, size: int) -> int:
    """Return the width of a text in pixels."""
    return math.ceil(sum(font.getlength(piece) for font, piece in pieces(text, size)))


def fit(text: str, size: int, room: int) -> str:
    """Shorten a text with an ellipsis if it is wider than `room` pixels."""
    if width(text, size) <= room:
        return text
    while text and width(text + "…", size) > room:
        text = text[:-1]
    return text + "…"


def write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, ink: Colour, size: int, anchor: str = "la"
) -> None:
    """Write a line of text.

    Args:
        draw: The picture.
        at: Where the anchor of the text is.
        text: The line.
        ink: The colour.
        size: Font size in pixels.
        anchor: Pillow's anchor: `l`, `m` or `r` (left, middle, right), then `a` (top) or `m` (middle).
    """
    x, y = at
    x -= {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * width(text, size)
    for font, piece in pieces(text, size):
        draw.text((x, y), piece, ink, font=font, anchor=f"l{anchor[1]}")
        x += font.getlength(piece)

"""Text of any script: a font with the glyph is found, and without one a line says what to install."""

from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw

from experiments.callbacks import fonts

RARE = "中"


def write_font(path: Path, character: str) -> None:
    """Write a font with one glyph, a full square."""
    pen = TTGlyphPen(None)
    for number, point in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
        (pen.lineTo if number else pen.moveTo)(point)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": square})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "One Square", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, sTypoDescender=-200)
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def machine_fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine whose only fonts are those of a folder."""

    def forget() -> None:
        for cached in (fonts._other_files, fonts.file_with, fonts.say_missing):
            cached.cache_clear()

    def found(*args: object, **options: object) -> list[str]:
        return [str(path) for path in tmp_path.glob("*.ttf")]

    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", found)
    forget()
    yield tmp_path
    forget()


def drawn(text: str) -> np.ndarray:
    image = Image.new("RGB", (120, 24), (255, 255, 255))
    fonts.write(ImageDraw.Draw(image), (2, 2), text, (0, 0, 0), 16)
    return np.asarray(image)[..., 0]


def test_a_font_of_the_machine_draws_what_the_default_lacks(machine_fonts: Path, capsys) -> None:
    write_font(machine_fonts / "square.ttf", RARE)
    assert fonts.file_with("a") == fonts.default_file()
    assert fonts.file_with(RARE) == machine_fonts / "square.ttf"
    assert [piece for _, piece in fonts.pieces(f"a{RARE}{RARE}␣", 16)] == ["a", RARE * 2, "␣"]
    dark = drawn(RARE) < 128
    assert dark.sum() > 100, "the square"
    assert fonts.width(f"a{RARE}", 16) == fonts.width("a", 16) + 16 or fonts.width(f"a{RARE}", 16) > 16
    assert capsys.readouterr().out == ""


def test_without_a_font_the_number_is_drawn_and_one_line_says_what_to_install(
    machine_fonts: Path, capsys
) -> None:
    (machine_fonts / "damaged.ttf").write_bytes(b"no font")
    assert (drawn(RARE) == drawn("U+4E2D")).all()
    assert fonts.width(RARE, 11) == fonts.width("U+4E2D", 11)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    assert "fonts-noto-cjk" in out


@pytest.mark.parametrize("text", ["", "Größe 3 ≤ π", "я", "␣⏎⇥▌∅…"])
def test_texts_of_the_default_font_are_one_piece(text: str, machine_fonts: Path) -> None:
    assert len(list(fonts.pieces(text, 11))) == (1 if text else len(list(fonts.pieces(text, 11))))


def test_line_ends_and_tabs_are_spaces() -> None:
    assert [piece for _, piece in fonts.pieces("a\nb\tc", 11)] == ["a b c"]


def test_a_text_that_is_too_long_ends_in_an_ellipsis() -> None:
    short = fonts.fit("a long name", 11, 40)
    assert short.endswith("…")
    assert fonts.width(short, 11) <= 40
    assert fonts.fit("ab", 11, 40) == "ab"


@pytest.mark.parametrize("anchor", ["la", "lm", "mm", "rm"])
def test_anchors_are_pillows(anchor: str) -> None:
    canvas, expected = (Image.new("RGB", (80, 40), (255, 255, 255)) for _ in range(2))
    fonts.write(ImageDraw.Draw(canvas), (40, 20), "text", (0, 0, 0), 12, anchor)
    font = fonts._font(fonts.default_file(), 12)
    ImageDraw.Draw(expected).text((40, 20), "text", (0, 0, 0), font=font, anchor=anchor)
    for axis in (0, 1):
        ours, theirs = (
            np.nonzero((np.asarray(picture)[..., 0] < 128).any(axis))[0] for picture in (canvas, expected)
        )
        assert abs(ours.min() - theirs.min()) <= 1
        assert abs(ours.max() - theirs.max()) <= 1

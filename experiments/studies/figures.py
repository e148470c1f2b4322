"""Save a Matplotlib figure: small files, and labels of any script."""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.text import Text
from PIL import Image

from experiments.callbacks.fonts import default_file, file_with, say_missing
from experiments.errors import writing

COLOURS = 64
"""Number of colours in the file; a figure with more looks the same and takes three times the space."""


def save(figure: Figure, path: Path, *, dpi: int = 120) -> None:
    """Write a figure as a PNG."""
    for text in figure.findobj(Text):
        _choose_fonts(text)
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # `say_missing` has said it
        canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture = picture.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)  # keeps colours of small marks
    with writing(path):
        picture.save(path, "PNG", optimize=True)


def _choose_fonts(text: Text) -> None:
    """Let a label use fonts that have its characters, if Matplotlib's own lacks them."""
    found = [file_with(c) for c in dict.fromkeys(text.get_text()) if not c.isascii()]
    if None in found:
        say_missing()
    others = dict.fromkeys(path for path in found if path not in (None, default_file()))
    if others:
        for path in others:
            fontManager.addfont(str(path))
        text.set_fontfamily(["DejaVu Sans", *(get_font(str(path)).family_name for path in others)])

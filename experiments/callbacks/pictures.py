"""Pictures for the dashboard, composed with NumPy and Pillow: a few milliseconds each.

A Matplotlib figure of the same content takes over 100 ms, which in a run of a minute would show.
"""

import importlib.util
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]

INK, FAINT, RED, PAPER = (38, 38, 38), (150, 150, 150), (196, 32, 32), (255, 255, 255)
GREEN, ORANGE = (61, 145, 96), (222, 94, 28)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Matplotlib carries DejaVu Sans, which has the letters of most languages; Pillow's own font is ASCII.
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def _width(text: str, size: int) -> int:
    return math.ceil(_font(size).getlength(text))


def _fit(text: str, size: int, width: int) -> str:
    """The text, cut short with an ellipsis where it is wider than ``width`` pixels."""
    if _width(text, size) <= width:
        return text
    while text and _width(text + "…", size) > width:
        text = text[:-1]
    return text + "…"


def _blend(colour: tuple[int, int, int], strength: float) -> tuple[int, int, int]:
    """White at strength 0, the colour at 1."""
    red, green, blue = (round(255 + (c - 255) * strength) for c in colour)
    return red, green, blue


def as_rgb(images: NDArray[np.generic]) -> Pixels:
    """Bring images to 8-bit RGB.

    Args:
        images: (N, C, H, W) with one channel or three; integers in 0…255 or floats. Floats are stretched so
            that the batch spans black to white, since they may be normalised.

    Returns:
        (N, H, W, 3).
    """
    if images.dtype != np.uint8:
        values = np.nan_to_num(images.astype(np.float32))
        low, high = values.min(initial=math.inf), values.max(initial=-math.inf)
        images = np.rint((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    channels_last = images.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(np.broadcast_to(channels_last, (*channels_last.shape[:3], 3)), dtype=np.uint8)


def enlarge(images: Pixels, size: int) -> Pixels:
    """Repeat pixels so that the longer side is about ``size``: (N, H, W, 3) → (N, kH, kW, 3)."""
    times = max(1, round(size / max(images.shape[1:3])))
    return images.repeat(times, axis=1).repeat(times, axis=2)


def confusion_matrix(counts: NDArray[np.integer], class_names: Sequence[str], title: str) -> Image.Image:
    """Draw a confusion matrix on which the mistakes of a good classifier can still be seen.

    Mistakes are shaded against the most frequent mistake, hits against their class; a column at the right
    gives each class's accuracy in percent.

    Args:
        counts: (K, K), true class by predicted class.
        class_names: K names.
        title: Written above.
    """
    classes = len(class_names)
    cell = 36 if classes <= 20 else max(4, 720 // classes)
    named = cell >= 14  # names beside smaller cells would overlap
    row_totals = counts.sum(1)
    mistakes = counts - np.diag(np.diag(counts))
    worst = max(1, int(mistakes.max(initial=0)))

    names = [_fit(name, 12, 110) for name in class_names] if named else [""] * classes
    left = 30 + max((_width(name, 12) for name in names), default=0)
    upright = all(_width(name, 12) <= cell - 4 for name in names)
    top = 52 + (16 if upright else max((_width(name, 12) for name in names), default=0))
    width = max(left + classes * cell + 56, _width(title, 14) + 24)
    image = Image.new("RGB", (width, top + classes * cell + 12), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((12, 8), title, INK, font=_font(14))
    draw.text((left + classes * cell / 2, 38), "predicted", FAINT, font=_font(12), anchor="mm")
    if named:
        draw.text((left + classes * cell + 30, top - 10), "%", FAINT, font=_font(12), anchor="mm")
    _rotated(image, "true", (4, top + classes * cell // 2), FAINT)

    for i in range(classes):
        y = top + i * cell
        draw.text((left - 6, y + cell / 2), names[i], INK, font=_font(12), anchor="rm")
        x = left + i * cell
        if upright:
            draw.text((x + cell / 2, top - 10), names[i], INK, font=_font(12), anchor="mm")
        else:
            _rotated(image, names[i], (x + cell // 2 - 8, top - 4 - _width(names[i], 12) // 2), INK)
        for j in range(classes):
            count = int(counts[i, j])
            share = count / max(1, int(row_totals[i])) if i == j else count / worst
            strength = 0.08 + 0.72 * share if i == j else (0.12 + 0.88 * share if count else 0)
            x = left + j * cell
            fill = _blend(GREEN if i == j else ORANGE, strength)
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill if count else (246, 246, 246))
            if count and cell >= 28:
                ink = PAPER if strength > 0.6 else INK
                draw.text((x + cell / 2 - 1, y + cell / 2), f"{count}", ink, font=_font(11), anchor="mm")
        if named and row_totals[i]:
            accuracy = f"{100 * counts[i, i] / row_totals[i]:.1f}"
            draw.text((left + classes * cell + 30, y + cell / 2), accuracy, INK, font=_font(11), anchor="mm")
    return image


def _rotated(image: Image.Image, text: str, at: tuple[int, int], ink: tuple[int, int, int]) -> None:
    """Write text from bottom to top, its middle at height ``at[1]`` and its left edge at ``at[0]``."""
    if not text:
        return
    strip = Image.new("RGB", (_width(text, 12) + 2, 16), PAPER)
    ImageDraw.Draw(strip).text((1, 8), text, ink, font=_font(12), anchor="lm")
    turned = strip.rotate(90, expand=True)
    image.paste(turned, (at[0], at[1] - turned.height // 2))


def mistake_grid(
    images: Pixels,
    true: Sequence[str],
    predicted: Sequence[str],
    probabilities: Sequence[float],
    title: str,
    columns: int = 8,
) -> Image.Image:
    """Lay images out in a labelled grid: the true class, and in red the predicted one and its probability.

    Args:
        images: (N, H, W, 3), the worst first.
        true: N class names.
        predicted: N class names.
        probabilities: N probabilities of the predicted classes.
        title: Written above.
        columns: Images in a row.
    """
    images = enlarge(images, 80)
    _, height, width, _ = images.shape
    step_x, step_y = max(width, 84) + 20, height + 44
    rows = math.ceil(len(images) / columns)
    canvas = np.full((36 + max(1, rows) * step_y, 12 + columns * step_x, 3), 255, np.uint8)
    corners = [(12 + (i % columns) * step_x, 36 + (i // columns) * step_y) for i in range(len(images))]
    for (x, y), tile in zip(corners, images, strict=True):
        canvas[y : y + height, x : x + width] = tile
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    draw.text((12, 8), title, INK, font=_font(14))
    for (x, y), truth, guess, p in zip(corners, true, predicted, probabilities, strict=True):
        share = f" {100 * p:.0f}%"
        room = step_x - 8
        draw.text((x, y + height + 3), _fit(truth, 12, room), INK, font=_font(12))
        guess = _fit(guess, 12, room - _width(share, 12))
        draw.text((x, y + height + 18), guess + share, RED, font=_font(12))
    return picture


def filter_grid(weights: NDArray[np.floating], title: str, limit: int = 64) -> Image.Image:
    """Show a first layer's weights as small images on one common scale.

    Weights of three input channels appear as colours around grey. Otherwise channels are averaged, and blue
    is negative, white zero, red positive.

    Args:
        weights: (N, C, H, W), one filter each.
        title: Written above.
        limit: Filters shown, the first ones.
    """
    weights = np.nan_to_num(weights[:limit].astype(np.float32))
    scaled = weights / max(float(np.abs(weights).max(initial=0)), 1e-12)  # in [−1, 1]
    if scaled.shape[1] == 3:
        rgb = (scaled.transpose(0, 2, 3, 1) + 1) / 2
    else:
        signed = scaled.mean(1)  # (N, H, W)
        fade = 1 - np.abs(signed)
        rgb = np.stack([np.where(signed > 0, 1, fade), fade, np.where(signed < 0, 1, fade)], axis=-1)
    tiles = enlarge((rgb * 255).astype(np.uint8), 56)
    count, height, width, _ = tiles.shape
    columns = min(count, 8 if count <= 32 else 16)
    rows = math.ceil(count / columns)
    step_x, step_y = width + 6, height + 6
    shape = (36 + rows * step_y + 6, max(12 + columns * step_x, _width(title, 14) + 24), 3)
    canvas = np.full(shape, 225, np.uint8)
    canvas[:36] = 255
    for i, tile in enumerate(tiles):
        x, y = 9 + (i % columns) * step_x, 42 + (i // columns) * step_y
        canvas[y : y + height, x : x + width] = tile
    picture = Image.fromarray(canvas)
    ImageDraw.Draw(picture).text((12, 8), title, INK, font=_font(14))
    return picture

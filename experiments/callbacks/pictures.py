"""Draw pictures for the dashboards with NumPy and Pillow, in a few milliseconds each.

A Matplotlib figure of the same content takes over 100 ms, which is noticeable in a run of a minute. Pictures
are about as wide as a card on TensorBoard's page of images; it shrinks wider ones until text is illegible.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from experiments.callbacks import fonts
from experiments.callbacks.fonts import Colour

Pixels = NDArray[np.uint8]

CARD = 350
"""Width of a card in pixels. TensorBoard repeats or leaves out pixels of a picture of another width."""
SMALLEST, SMALL, TITLE = 9, 11, 12
"""Font sizes in pixels."""
LARGEST = 1e300
"""Bound of the values that are drawn; the span of larger ones could overflow."""
SMALLEST_WITH_NUMBERS = 18
"""Size of the smallest cell of a confusion matrix that has a number."""

INK, FAINT, RED, PAPER, EMPTY = (38, 38, 38), (140, 140, 140), (196, 32, 32), (255, 255, 255), (246, 246, 246)
GREEN, ORANGE, BLUE = (61, 145, 96), (222, 94, 28), (24, 78, 140)
SPRITE = 32
"""Largest side of an image in the embedding projector. Its picture of all images has at most 8192 pixels."""


def _blend(colour: Colour, strength: float) -> Colour:
    """Mix white (strength 0) and a colour (strength 1)."""
    red, green, blue = (round(255 + (c - 255) * strength) for c in colour)
    return red, green, blue


def as_rgb(images: NDArray[np.generic]) -> Pixels:
    """Bring images to 8-bit RGB.

    Args:
        images: (N, C, H, W) with one channel or three; integers in 0…255 or floats. Floats may be
            normalised, so they are scaled until the batch spans black to white.

    Returns:
        (N, H, W, 3).
    """
    if images.dtype != np.uint8:
        values = np.nan_to_num(images.astype(np.float32))
        low, high = values.min(initial=math.inf), values.max(initial=-math.inf)
        images = np.rint((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    channels_last = images.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(np.broadcast_to(channels_last, (*channels_last.shape[:3], 3)), dtype=np.uint8)


def sprites(images: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return images (N, C, H, W) as the embedding projector takes them: RGB in [0, 1], (N, 3, H', W')."""
    pixels = as_rgb(images)
    return resized(pixels, min(SPRITE, max(pixels.shape[1:3]))).transpose(0, 3, 1, 2) / 255


def resized(images: Pixels, size: int) -> Pixels:
    """Bring the longer side to about `size`: (N, H, W, 3) → (N, H', W', 3).

    Small images become k times as large by repeating their pixels; large ones are averaged.
    """
    height, width = images.shape[1:3]
    longest = max(height, width)
    if longest <= 1.5 * size:
        times = max(1, round(size / longest))
        return images.repeat(times, axis=1).repeat(times, axis=2)
    height, width = (max(1, round(side * size / longest)) for side in (height, width))
    small = [Image.fromarray(image).resize((width, height), Image.Resampling.BOX) for image in images]
    return np.array(small, dtype=np.uint8).reshape(-1, height, width, 3)


def confusion_matrix(counts: NDArray[np.integer], class_names: Sequence[str], title: str) -> Image.Image:
    """Draw a confusion matrix that still shows the mistakes of a good classifier.

    Mistakes are shaded relative to the most frequent mistake, hits relative to their class. A column on the
    right gives the accuracy of each class in percent.

    Args:
        counts: (K, K), true class by predicted class.
        class_names: K names.
        title: The title above the picture.
    """
    classes = len(class_names)
    named = classes <= 42  # names of smaller cells would overlap
    row_totals = counts.sum(1)
    mistakes = counts - np.diag(np.diag(counts))
    worst = max(1, int(mistakes.max(initial=0)))

    names = [fonts.fit(name, SMALL, 100) for name in class_names] if named else [""] * classes
    longest = max((fonts.width(name, SMALL) for name in names), default=0)
    cell = _cell(counts, CARD - longest - 68)
    upright = longest <= cell - 4
    left, top = 24 + longest, 44 + (14 if upright else longest + 4)
    side = classes * cell
    width = max(CARD, left + side + 44, fonts.width(title, TITLE) + 12)
    image = Image.new("RGB", (width, top + side + 8), PAPER)
    draw = ImageDraw.Draw(image)

    def write(x: float, y: float, text: str, ink: Colour = INK, anchor: str = "mm") -> None:
        fonts.write(draw, (x, y), text, ink, SMALL, anchor)

    fonts.write(draw, (6, 4), title, INK, TITLE)
    write(left + side / 2, 34, "predicted", FAINT)
    _rotated(image, "true", (2, top + side // 2), FAINT)
    if named:
        write(left + side + 23, top - 10, "%", FAINT)
    for i in range(classes):
        near, y = left + i * cell, top + i * cell
        write(left - 5, y + cell / 2, names[i], anchor="rm")
        if upright:
            write(near + cell / 2, top - 10, names[i])
        else:
            _rotated(
                image, names[i], (near + cell // 2 - 8, top - 4 - fonts.width(names[i], SMALL) // 2), INK
            )
        for j in range(classes):
            count, x = int(counts[i, j]), left + j * cell
            if i == j:
                strength = 0.08 + 0.72 * count / max(1, int(row_totals[i]))
            else:
                strength = 0.12 + 0.88 * count / worst
            fill = _blend(GREEN if i == j else ORANGE, strength) if count else EMPTY
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill)
            if count and cell >= SMALLEST_WITH_NUMBERS:
                number, size = _number(count, cell - 4)
                ink = PAPER if strength > 0.6 else INK
                fonts.write(draw, (x + cell / 2 - 1, y + cell / 2), number, ink, size, "mm")
        if named and row_totals[i]:
            write(left + side + 23, y + cell / 2, f"{100 * counts[i, i] / row_totals[i]:.1f}")
    return image


def _cell(counts: NDArray[np.integer], room: int) -> int:
    """Return the size of a cell, so that a matrix with whole numbers is no wider than `room`, if possible."""
    classes = len(counts)
    widest = fonts.width(_number(int(counts.max(initial=0)), 0)[0], SMALLEST) + 4
    fitting = min(28, room // max(1, classes))
    if fitting >= max(widest, SMALLEST_WITH_NUMBERS):
        return fitting
    return 28 if classes <= 20 else max(4, 600 // classes)


def _number(count: int, room: int) -> tuple[str, int]:
    """Return a count, above 9,999 as `12k`, and the largest font size that fits it into `room` pixels."""
    text = str(count) if count < 10_000 else f"{count / 1000:.0f}k"
    sizes = (size for size in range(SMALL, SMALLEST, -1) if fonts.width(text, size) <= room)
    return text, next(sizes, SMALLEST)


def _rotated(image: Image.Image, text: str, at: tuple[int, int], ink: Colour) -> None:
    """Write text from bottom to top, with its left edge at `at[0]` and its middle at `at[1]`."""
    if not text:
        return
    strip = Image.new("RGB", (fonts.width(text, SMALL) + 2, 16), PAPER)
    fonts.write(ImageDraw.Draw(strip), (1, 8), text, ink, SMALL, "lm")
    turned = strip.rotate(90, expand=True)
    image.paste(turned, (at[0], at[1] - turned.height // 2))


def mistake_grid(
    images: Pixels,
    true: Sequence[str],
    predicted: Sequence[str],
    probabilities: Sequence[float],
    title: str,
) -> Image.Image:
    """Draw misclassified images in a grid: the true class, and in red the predicted class and probability.

    The images (N, H, W, 3) start with the worst mistake.
    """
    images = resized(images, 56)
    _, height, width, _ = images.shape
    shares = [f" {100 * p:.0f}%" for p in probabilities]
    labels = [guess + share for guess, share in zip(predicted, shares, strict=True)]
    widest = min(100, max((fonts.width(label, SMALL) for label in [*true, *labels]), default=0))
    step_x, step_y = max(width, widest) + 8, height + 36
    columns = max(1, (CARD - 6) // step_x)
    rows = max(1, math.ceil(len(images) / columns))
    canvas = np.full((26 + rows * step_y, max(CARD, 6 + columns * step_x), 3), 255, np.uint8)
    corners = [(6 + (i % columns) * step_x, 26 + (i // columns) * step_y) for i in range(len(images))]
    for (x, y), tile in zip(corners, images, strict=True):
        canvas[y : y + height, x : x + width] = tile
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    fonts.write(draw, (6, 4), title, INK, TITLE)
    for (x, y), truth, guess, share in zip(corners, true, predicted, shares, strict=True):
        fonts.write(draw, (x, y + height + 2), fonts.fit(truth, SMALL, step_x - 6), INK, SMALL)
        guess = fonts.fit(guess, SMALL, step_x - 6 - fonts.width(share, SMALL))
        fonts.write(draw, (x, y + height + 16), guess + share, RED, SMALL)
    return picture


def filter_grid(weights: NDArray[np.floating], title: str, limit: int = 64) -> Image.Image:
    """Show a first layer's weights (N, C, H, W) as N small images on one common scale.

    Weights of three input channels are colours around grey. Otherwise channels are averaged: blue is
    negative, white is zero, red is positive.
    """
    weights = np.nan_to_num(weights[:limit].astype(np.float32))
    scaled = weights / max(float(np.abs(weights).max(initial=0)), 1e-12)  # in [−1, 1]
    if scaled.shape[1] == 3:
        rgb = (scaled.transpose(0, 2, 3, 1) + 1) / 2
    else:
        signed = scaled.mean(1)  # (N, H, W)
        fade = 1 - np.abs(signed)
        rgb = np.stack([np.where(signed > 0, 1, fade), fade, np.where(signed < 0, 1, fade)], axis=-1)
    tiles = resized((rgb * 255).astype(np.uint8), 36)
    count, height, width, _ = tiles.shape
    step_x, step_y = width + 6, height + 6
    columns = max(1, min(count, (CARD - 6) // step_x))
    rows = math.ceil(count / columns)
    canvas = np.full((26 + rows * step_y + 6, max(CARD, 6 + columns * step_x), 3), 225, np.uint8)
    canvas[:26] = 255
    for i, tile in enumerate(tiles):
        x, y = 6 + (i % columns) * step_x, 32 + (i // columns) * step_y
        canvas[y : y + height, x : x + width] = tile
    picture = Image.fromarray(canvas)
    fonts.write(ImageDraw.Draw(picture), (6, 4), title, INK, TITLE)
    return picture


def attention_grid(maps: NDArray[np.floating], title: str) -> Image.Image:
    """Show the attention maps (L, H, T, S) of all heads, one row per layer: queries down, keys across.

    The shade is the square root of the weight, so that 0.1 is visible next to 1.
    """
    layers, heads, height, width = maps.shape
    cell = max(1, min(6, (CARD - 30) // max(1, heads * width)))
    down, across = height * cell + 5, width * cell + 5
    image = Image.new("RGB", (max(CARD, 26 + heads * across), 44 + layers * down), PAPER)
    draw = ImageDraw.Draw(image)
    fonts.write(draw, (6, 4), fonts.fit(title, TITLE, image.width - 12), INK, TITLE)
    for head in range(heads):
        place = (26 + head * across + across // 2, 34)
        name = f"head {head + 1}" if across > 45 else f"{head + 1}"
        fonts.write(draw, place, name, FAINT, SMALL, "mm")
    for layer in range(layers):
        fonts.write(draw, (14, 44 + layer * down + down // 2), f"{layer + 1}", FAINT, SMALL, "mm")
        for head in range(heads):
            image.paste(_shades(maps[layer, head], cell), (26 + head * across, 44 + layer * down))
    return image


def attention_map(
    weights: NDArray[np.floating], tokens: Sequence[str], title: str, *, seen: Sequence[str] | None = None
) -> Image.Image:
    """Show one attention map with its tokens at both edges: queries down, keys across.

    The weights (T, S) belong to T `tokens` and to S tokens `seen`, by default the same ones.
    """
    cell = 12 if seen is None else 18
    down, across = (
        [fonts.fit(t, SMALL, 60) for t in texts] for texts in (tokens, tokens if seen is None else seen)
    )
    left, top = (max((fonts.width(n, SMALL) for n in names), default=0) + 8 for names in (down, across))
    top += 24
    width, height = len(across) * cell, len(down) * cell
    image = Image.new("RGB", (max(CARD, left + width + 8), top + height + 8), PAPER)
    draw = ImageDraw.Draw(image)
    fonts.write(draw, (6, 4), fonts.fit(title, TITLE, image.width - 12), INK, TITLE)
    for i, name in enumerate(down):
        fonts.write(draw, (left - 5, top + i * cell + cell // 2), name, INK, SMALL, "rm")
    for i, name in enumerate(across):
        middle = left + i * cell + cell // 2
        _rotated(image, name, (middle - 8, top - 3 - fonts.width(name, SMALL) // 2), INK)
    image.paste(_shades(weights, cell), (left, top))
    return image


def density(true: NDArray[np.floating], predicted: NDArray[np.floating], title: str) -> Image.Image:
    """Show how many predictions lie where, over the true values; on the grey diagonal they are right.

    The shade is the square root of the share of the fullest cell. Values that are not finite are left out.
    """
    x, y = true.ravel().astype(np.float64), predicted.ravel().astype(np.float64)
    finite = (np.abs(x) < LARGEST) & (np.abs(y) < LARGEST)  # false for NaN
    x, y = x[finite], y[finite]
    values = np.concatenate([x, y]) if len(x) else np.zeros(1)
    low, high = values.min(), values.max()
    high = high if high > low else low + 1
    side, cells, left, top = 256, 64, 76, 26
    counts = np.histogram2d(y, x, bins=cells, range=[[low, high], [low, high]])[0][::-1]  # large y on top
    image = Image.new("RGB", (CARD, top + side + 40), PAPER)
    draw = ImageDraw.Draw(image)
    fonts.write(draw, (6, 4), fonts.fit(title, TITLE, CARD - 12), INK, TITLE)
    image.paste(_shades(counts / max(1, counts.max()), side // cells), (left, top))
    draw.line((left, top + side - 1, left + side - 1, top), FAINT)
    draw.rectangle((left - 1, top - 1, left + side, top + side), outline=FAINT)
    for number, across, down in ((low, left, top + side - 6), (high, left + side, top + 6)):
        fonts.write(draw, (left - 6, down), f"{number:.4g}", INK, SMALL, "rm")
        fonts.write(draw, (across, top + side + 10), f"{number:.4g}", INK, SMALL, "mm")
    fonts.write(draw, (left + side // 2, top + side + 26), "true", FAINT, SMALL, "mm")
    _rotated(image, "predicted", (8, top + side // 2), FAINT)
    return image


def _shades(weights: NDArray[np.floating], cell: int) -> Image.Image:
    """Draw weights (T, S) in [0, 1] from white to blue, with `cell` × `cell` pixels each."""
    strength = np.sqrt(np.nan_to_num(weights).clip(0, 1))[..., None]
    pixels = np.rint(255 + (np.array(BLUE) - 255) * strength).astype(np.uint8)
    return Image.fromarray(pixels.repeat(cell, axis=0).repeat(cell, axis=1))

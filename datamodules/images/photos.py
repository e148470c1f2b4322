"""Read whole pictures, such as photos, as images of one size."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from datamodules.images.picture_files import HIGH_BIT_MODES, errors_for_bombs, opened_picture, scaled


def read_photos(
    paths: Sequence[Path], shape: tuple[int, int, int], *, fit: str
) -> tuple[Tensor, dict[Path, str]]:
    """Read pictures in several threads.

    Args:
        paths: Image files.
        shape: (C, H, W) of an image; C is 1 for grey or 3 for colour.
        fit: `"crop"` cuts the middle out of the scaled picture; `"resize"` scales both sides.

    Returns:
        The images, uint8 (N, C, H, W), and the reason for each file that can't be read; its image is black.
    """
    images = torch.zeros(len(paths), *shape, dtype=torch.uint8)
    faults: dict[Path, str] = {}

    def read(index: int) -> None:
        try:
            images[index] = _read(paths[index], shape, fit=fit)
        except (OSError, ValueError) as error:
            path = paths[index]
            faults[path] = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} is ")

    with errors_for_bombs(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(read, range(len(paths))))
    return images, {path: faults[path] for path in paths if path in faults}


def read_photo(path: Path, shape: tuple[int, ...], *, fit: str) -> Tensor:
    """Read one picture; see `read_photos`.

    Returns:
        uint8 (C, H, W).

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an image.
    """
    with errors_for_bombs():
        return _read(path, shape, fit=fit)


def _read(path: Path, shape: tuple[int, ...], *, fit: str) -> Tensor:
    channels, height, width = shape
    # Twice the size keeps the quality; a JPEG file can be unpacked at a fraction of its size.
    with opened_picture(path, enough=2 * max(height, width)) as picture:
        whole = _in_colour(picture)
        way = partial(ImageOps.fit, whole) if fit == "crop" else partial(whole.resize, reducing_gap=2.0)
        image = way((width, height), Image.Resampling.BILINEAR)
        pixels = np.array(image if channels == 3 else image.convert("L"))  # (H, W, 3) or (H, W)
    return torch.from_numpy(pixels).view(height, width, channels).permute(2, 0, 1)


def _in_colour(picture: Image.Image) -> Image.Image:
    """Return 8-bit RGB; transparent pixels become white."""
    if picture.mode[0] in HIGH_BIT_MODES:
        grey = scaled(np.asarray(picture, dtype=np.float64), HIGH_BIT_MODES[picture.mode[0]])
        return Image.fromarray(np.rint(grey * 255).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")

"""Reads an image file of any size as one image in the format of a data set."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.images.photos import read_photo
from datamodules.images.picture_files import HIGH_BIT_MODES, errors_for_bombs, opened_picture, scaled
from datamodules.info import ImageInfo

_LEAST_CONTRAST = 0.05
_PAPER = 0.15
"""A pixel darker than this share of the brightest ink counts as background."""


def read_image(path: Path | str, info: ImageInfo) -> Tensor:
    """Read a picture as an image like the training images.

    Where `info.framing` is `"object"`, the picture shows one object: see `_frame_object`. Otherwise the whole
    picture is scaled, as `read_photo` does.

    Args:
        path: A PNG, JPEG, BMP, GIF, TIFF or WebP file.
        info: The description of the training images.

    Returns:
        uint8 (C, H, W), pixels 0 … 255.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an image, the image is empty, or the model does not take images.
    """
    if len(info.input_shape) != 3 or info.input_shape[0] not in (1, 3):
        raise ValueError(f"the model takes inputs of shape {info.input_shape}, not images (1 or 3, H, W)")
    if info.framing == "object" and info.input_shape[0] == 1:
        return _frame_object(Path(path), info)
    fit = "crop" if info.framing == "object" else info.framing
    return read_photo(Path(path), info.input_shape, fit=fit)


def _frame_object(path: Path, info: ImageInfo) -> Tensor:
    """Frame the object of a picture like the training images.

    The picture is converted to a light grey object on black; the original may be dark on light. The bounding
    box of the object is scaled to `info.object_size` with its aspect ratio. The centre of mass of the object
    (or the centre of its box) is moved to the centre of the image. MNIST was made in this way (LeCun, Bottou,
    Bengio and Haffner, 1998, section III.A).

    Returns:
        uint8 (1, H, W), pixels 0 … 255.
    """
    _, height, width = info.input_shape
    ink = _light_on_dark(_read_grey(path), path)  # (H_file, W_file)
    fitted = _fit(_crop(ink), info.object_size or min(height, width))  # (h, w), at most object_size
    framed = np.zeros((height, width), dtype=np.uint8)
    top, left = _corner(fitted, height, width, of_mass=info.object_center == "mass")
    framed[top : top + fitted.shape[0], left : left + fitted.shape[1]] = np.round(fitted * 255)
    return torch.from_numpy(framed).unsqueeze(0)


def _read_grey(path: Path) -> np.ndarray:
    """Return brightness in [0, 1], (H, W); transparent pixels get the colour with the best contrast."""
    with errors_for_bombs(), opened_picture(path) as picture:
        if picture.mode[0] in HIGH_BIT_MODES:
            return scaled(np.asarray(picture, dtype=np.float64), HIGH_BIT_MODES[picture.mode[0]])
        pixels = np.asarray(picture.convert("LA"), dtype=np.float64) / 255
    grey, alpha = pixels[..., 0], pixels[..., 1]
    if alpha.min() == 1 or alpha.max() == 0:
        return grey
    backdrop = 0.0 if np.average(grey, weights=alpha) > 0.5 else 1.0
    return grey * alpha + backdrop * (1 - alpha)


def _light_on_dark(grey: np.ndarray, path: Path | str) -> np.ndarray:
    """Return ink in [0, 1] on a background of 0; the background is the median of the border."""
    low, high = grey.min(), grey.max()
    if high - low < _LEAST_CONTRAST:
        raise ValueError(f"{path}: shows nothing; all pixels are nearly the same")
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background = np.median(border)
    ink = background - grey if background > (low + high) / 2 else grey - background
    ink = (ink / ink.max()).clip(0, 1)
    return np.where(ink < _PAPER, 0, ink)


def _crop(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fit(ink: np.ndarray, longest: int) -> np.ndarray:
    """Scale the longer side to this many pixels; merged pixels are averaged."""
    scale = longest / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    scaled = Image.fromarray(ink.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    fitted = np.asarray(scaled)
    return fitted / fitted.max()


def _corner(fitted: np.ndarray, height: int, width: int, *, of_mass: bool) -> tuple[int, int]:
    """Return the position of the object's top left pixel in the frame."""
    corner = []
    for axis, length in enumerate((height, width)):
        side = fitted.shape[axis]
        first = (length - side) // 2
        if of_mass:
            middle = np.average(np.arange(side) + 0.5, weights=fitted.sum(axis=1 - axis))
            first = math.ceil(length / 2 - middle)  # in MNIST all centres lie between 14 and 15
        corner.append(min(max(first, 0), length - side))
    return corner[0], corner[1]

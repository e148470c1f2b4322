"""Reads an image file of any size as one image in the format of a data set."""

import math
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from datamodules.assets.ordinary_files import check_ordinary
from datamodules.info import ImageInfo

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The change that turns a photo upright, by its EXIF orientation."""
_WHITE = {"F": (1, 255, 65535), "I": (255, 4095, 65535)}
"""Possible values of white in images of floats and of integers above 8 bits; the file does not say which."""
_LEAST_CONTRAST = 0.05
_PAPER = 0.15
"""A pixel darker than this share of the brightest ink counts as background."""


def read_image(path: Path | str, info: ImageInfo) -> Tensor:
    """Read a picture of one object and frame it like the training images.

    The picture is converted to a light grey object on black; the original may be dark on light. The bounding
    box of the object is scaled to `info.object_size` with its aspect ratio. The centre of mass of the object
    (or the centre of its box) is moved to the centre of the image. MNIST was made in this way (LeCun, Bottou,
    Bengio and Haffner, 1998, section III.A).

    Args:
        path: A PNG, JPEG, BMP, GIF, TIFF or WebP file.
        info: The description of the training images.

    Returns:
        uint8 (1, H, W), pixels 0 … 255.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an image, the image is empty, or the model does not take grey images.
    """
    if len(info.input_shape) != 3 or info.input_shape[0] != 1:
        raise ValueError(f"the model takes inputs of shape {info.input_shape}, not grey images (1, H, W)")
    _, height, width = info.input_shape
    ink = _light_on_dark(_read_grey(Path(path)), path)  # (H_file, W_file)
    fitted = _fit(_crop(ink), info.object_size or min(height, width))  # (h, w), at most object_size
    framed = np.zeros((height, width), dtype=np.uint8)
    top, left = _corner(fitted, height, width, of_mass=info.object_center == "mass")
    framed[top : top + fitted.shape[0], left : left + fitted.shape[1]] = np.round(fitted * 255)
    return torch.from_numpy(framed).unsqueeze(0)


def _read_grey(path: Path) -> np.ndarray:
    """Return brightness in [0, 1], (H, W); transparent pixels get the colour with the best contrast."""
    if path.is_dir():
        raise ValueError(f"{path}: a folder, expected an image file")
    check_ordinary(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as corrupt EXIF data
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as opened:
                picture = _upright(opened)
                if picture.mode[0] in _WHITE:
                    return _scaled(np.asarray(picture, dtype=np.float64), _WHITE[picture.mode[0]])
                pixels = np.asarray(picture.convert("LA"), dtype=np.float64) / 255
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image of a known kind ({', '.join(_FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{path}: too many pixels; scale it down first") from None
    except Exception as error:  # a damaged file makes Pillow raise many kinds, such as struct.error
        raise ValueError(f"{path}: can't be read as an image: {error}") from error
    grey, alpha = pixels[..., 0], pixels[..., 1]
    if alpha.min() == 1 or alpha.max() == 0:
        return grey
    backdrop = 0.0 if np.average(grey, weights=alpha) > 0.5 else 1.0
    return grey * alpha + backdrop * (1 - alpha)


def _upright(opened: Image.Image) -> Image.Image:
    """Turn a photo upright. Only its orientation is read: other EXIF tags may be malformed."""
    opened.load()  # a TIFF file is turned here
    turn = _UPRIGHT.get(opened.getexif().get(ExifTags.Base.Orientation, 1))
    return opened if turn is None else opened.transpose(turn)


def _scaled(values: np.ndarray, whites: tuple[int, ...]) -> np.ndarray:
    """Scale to [0, 1] by the smallest value of white that no pixel exceeds."""
    low, high = values.min(), values.max()
    white = next((white for white in whites if high <= white), None)
    if white is None or not low >= 0:
        raise ValueError(f"its pixels have values from {low:g} to {high:g}, expected 0 to {whites[-1]}")
    return values / white


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

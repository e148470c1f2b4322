"""Open a picture file of a known format safely: upright, of bounded size, errors in one line."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from datamodules.assets.ordinary_files import check_ordinary

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
HIGH_BIT_MODES = {"F": (1, 255, 65535), "I": (255, 4095, 65535)}
"""Possible values of white in images of floats and of integers above 8 bits; the file does not say which."""


@contextlib.contextmanager
def errors_for_bombs() -> Iterator[None]:
    """Make Pillow refuse pictures of too many pixels, and hide its other warnings.

    Warnings are a setting of the whole process, so threads that read pictures share one such block.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as corrupt EXIF data
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextlib.contextmanager
def opened_picture(path: Path, *, enough: int | None = None) -> Iterator[Image.Image]:
    """Open a picture file, upright; the block must lie within `errors_for_bombs`.

    Args:
        path: A PNG, JPEG, BMP, GIF, TIFF or WebP file.
        enough: A JPEG file may be unpacked at a fraction of its size if both sides keep this many pixels.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a picture, or the block fails.
    """
    if path.is_dir():
        raise ValueError(f"{path}: a folder, expected an image file")
    check_ordinary(path)
    try:
        with Image.open(path, formats=_FORMATS) as opened:
            if enough is not None:
                opened.draft(None, (enough, enough))
            yield _upright(opened)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image of a known kind ({', '.join(_FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{path}: too many pixels; scale it down first") from None
    except Exception as error:  # a damaged file makes Pillow raise many kinds, such as struct.error
        raise ValueError(f"{path}: can't be read as an image: {error}") from error


def scaled(values: np.ndarray, whites: tuple[int, ...]) -> np.ndarray:
    """Scale to [0, 1] by the smallest value of white that no pixel exceeds."""
    low, high = values.min(), values.max()
    white = next((white for white in whites if high <= white), None)
    if white is None or not low >= 0:
        raise ValueError(f"its pixels have values from {low:g} to {high:g}, expected 0 to {whites[-1]}")
    return values / white


def _upright(opened: Image.Image) -> Image.Image:
    """Turn a photo upright. Only its orientation is read: other EXIF tags may be malformed."""
    opened.load()  # a TIFF file is turned here
    turn = _UPRIGHT.get(opened.getexif().get(ExifTags.Base.Orientation, 1))
    return opened if turn is None else opened.transpose(turn)

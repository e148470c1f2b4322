"""Whole pictures are scaled to one size, in colour or grey."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images.photos import read_photo, read_photos

RED, GREEN, BLUE = (200, 30, 40), (30, 180, 60), (40, 50, 220)


def stripes(path: Path, *, upright: bool = False) -> Path:
    """Three stripes of 60×20 pixels beside each other (or on top of each other), red, green and blue."""
    picture = np.zeros((60, 180, 3), dtype=np.uint8)
    for i, colour in enumerate((RED, GREEN, BLUE)):
        picture[:, 60 * i : 60 * (i + 1)] = colour
    Image.fromarray(picture.transpose(1, 0, 2) if upright else picture).save(path)
    return path


@pytest.mark.parametrize("upright", [False, True])
def test_crop_keeps_the_middle_and_resize_the_whole(tmp_path: Path, upright: bool) -> None:
    path = stripes(tmp_path / "a.png", upright=upright)
    cropped = read_photo(path, (3, 12, 12), fit="crop")
    assert cropped.dtype == torch.uint8
    assert cropped[:, 1:-1, 1:-1].flatten(1).unique(dim=1).tolist() == [[GREEN[0]], [GREEN[1]], [GREEN[2]]]
    whole = read_photo(path, (3, 12, 12), fit="resize")
    first, last = (whole[:, 0], whole[:, -1]) if upright else (whole[:, :, 0], whole[:, :, -1])
    assert first.T.unique(dim=0).tolist() == [list(RED)]
    assert last.T.unique(dim=0).tolist() == [list(BLUE)]


def test_a_large_jpeg_is_read_like_the_same_png(tmp_path: Path) -> None:
    """A JPEG file is unpacked at a fraction of its size."""
    rows, columns = np.mgrid[:600, :900]
    picture = np.stack([rows % 256, columns % 256, (rows + columns) // 6], axis=-1).astype(np.uint8)
    for name in ("a.png", "a.jpg"):
        Image.fromarray(picture).save(tmp_path / name, **({"quality": 95} if name == "a.jpg" else {}))
    jpeg, png = (read_photo(tmp_path / f"a.{kind}", (3, 30, 30), fit="crop") for kind in ("jpg", "png"))
    assert (jpeg.int() - png.int()).abs().double().mean() < 3


def test_grey_is_the_luminance_of_colour(tmp_path: Path) -> None:
    grey = read_photo(stripes(tmp_path / "a.png"), (1, 10, 10), fit="crop")
    assert grey.shape == (1, 10, 10)
    assert grey[:, 1:-1, 1:-1].unique().tolist() == [
        round(0.299 * GREEN[0] + 0.587 * GREEN[1] + 0.114 * GREEN[2])
    ]


def test_modes_and_transparency(tmp_path: Path) -> None:
    grey = np.full((20, 20), 90, dtype=np.uint8)
    clear = np.zeros((20, 20, 4), dtype=np.uint8)
    clear[:, 10:] = (*BLUE, 255)
    pictures = {
        "grey.png": Image.fromarray(grey),
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "palette.gif": Image.fromarray(grey).convert("P"),
        "clear.png": Image.fromarray(clear),
        "cmyk.jpg": Image.new("CMYK", (20, 20), (0, 0, 0, 0)),
    }
    read = {}
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        read[name] = read_photo(tmp_path / name, (3, 10, 10), fit="crop")
    for name in ("grey.png", "deep.png", "palette.gif"):
        assert read[name].unique().tolist() == [90], name
    assert read["clear.png"][:, 0, 0].tolist() == [255] * 3
    assert read["clear.png"][:, 0, -1].tolist() == list(BLUE)
    assert read["cmyk.jpg"].min() > 250


def test_a_photographs_orientation_is_heeded(tmp_path: Path) -> None:
    upright = Image.open(stripes(tmp_path / "upright.png"))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    both = [read_photo(tmp_path / name, (3, 9, 9), fit="resize") for name in ("upright.png", "turned.png")]
    assert torch.equal(*both)


def test_many_pictures_keep_their_order_and_the_bad_ones_their_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    paths = []
    for i in range(40):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", (4, 5), (6 * i, 0, 0)).save(paths[-1])
    Image.new("RGB", (30, 30)).save(paths[3])  # refused before it is unpacked
    paths[7].write_text("no picture")
    paths[9].write_bytes(paths[8].read_bytes()[:45])
    paths[11].unlink()
    images, faults = read_photos(paths, (3, 2, 2), fit="crop")
    assert list(faults) == [paths[i] for i in (3, 7, 9, 11)]
    assert [reason.split(":")[0].split(";")[0] for reason in faults.values()] == [
        "too many pixels",
        "not an image of a known kind (PNG, JPEG, BMP, GIF, TIFF, WEBP)",
        "can't be read as an image",
        "no such file",
    ]
    expected = [0 if i in (3, 7, 9, 11) else 6 * i for i in range(40)]
    assert images[:, 0, 0, 0].tolist() == expected

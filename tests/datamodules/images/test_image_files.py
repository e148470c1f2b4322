"""Pictures of all kinds become images in the training set's own format."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from datamodules.images.image_files import read_image
from datamodules.info import ImageInfo
from datamodules.mnist import MNISTDataModule

INFO = ImageInfo(
    input_shape=(1, 28, 28), class_names=(), mean=(), std=(), object_size=20, object_center="mass"
)


def stroke(height: int = 90, width: int = 140) -> np.ndarray:
    """A light L on black, (height, width) uint8, off centre."""
    picture = np.zeros((height, width), dtype=np.uint8)
    picture[20:70, 30:38] = 230
    picture[62:70, 30:60] = 230
    return picture


def save(path: Path, picture: np.ndarray) -> Path:
    Image.fromarray(picture).save(path)
    return path


@pytest.mark.network
def test_mnist_survives_enlarging_inverting_and_jpeg(mnist: MNISTDataModule, tmp_path: Path) -> None:
    """Digits drawn large in dark ink on grey paper are read as the digits they were."""
    images, targets = (part[:60] for part in mnist.split("test"))
    again = []
    for i, image in enumerate(images[:, 0].numpy()):
        large = Image.fromarray(image).resize((28 * 9, 28 * 9), Image.Resampling.BICUBIC)
        page = np.full((400, 500), 235, dtype=np.uint8)
        page[100 : 100 + 252, 30 : 30 + 252] -= (np.asarray(large) * 0.8).astype(np.uint8)
        Image.fromarray(page).save(tmp_path / f"{i}.jpg", quality=85)
        again.append(read_image(tmp_path / f"{i}.jpg", mnist.info))
    read = torch.stack(again)
    correlation = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(read, images, strict=True)]
    assert np.mean(correlation) > 0.92
    known, classes = (part[:4000] for part in mnist.split("train"))
    neighbours = KNeighborsClassifier(3).fit(known.flatten(1).numpy(), classes.numpy())
    accuracy_before = neighbours.score(images.flatten(1).numpy(), targets.numpy())
    accuracy_after = neighbours.score(read.flatten(1).numpy(), targets.numpy())
    assert accuracy_after >= accuracy_before - 2 / 60


def test_object_fills_its_box_about_its_centre_of_mass(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "l.png", stroke()), INFO)
    assert image.shape == (1, 28, 28)
    assert image.dtype == torch.uint8
    assert image.max() == 255
    rows, columns = image[0].any(1).nonzero(), image[0].any(0).nonzero()
    assert rows.max() - rows.min() + 1 == 20
    assert columns.max() - columns.min() + 1 == 12  # 30 of 50 pixels
    weight = image[0].double() / image.sum()
    place = torch.arange(28) + 0.5
    assert 14 <= float(weight.sum(1) @ place.double()) < 15
    assert 14 <= float(weight.sum(0) @ place.double()) < 15


def test_box_is_centred_where_the_set_says_so(tmp_path: Path) -> None:
    info = replace(INFO, input_shape=(1, 8, 8), object_size=8, object_center="box")
    image = read_image(save(tmp_path / "l.png", stroke()), info)[0]
    assert image.any(1).all(), "the object is as high as the frame"
    assert image.any(0).nonzero().flatten().tolist() == [1, 2, 3, 4, 5]


def test_polarity_colour_depth_and_transparency_make_no_difference(tmp_path: Path) -> None:
    light = stroke()
    expected = read_image(save(tmp_path / "light.png", light), INFO)
    page = np.zeros((*light.shape, 4), dtype=np.uint8)
    page[..., 3] = light
    white = page.copy()
    white[..., :3] = 255
    pictures = {
        "dark.png": 255 - light,
        "rgb.png": np.repeat(255 - light[..., None], 3, axis=2),
        "deep.png": (light.astype(np.uint16) * 257),
        "faint.png": (light // 8 + 100),
        "black_on_nothing.png": page,
        "white_on_nothing.png": white,
    }
    for name, picture in pictures.items():
        image = read_image(save(tmp_path / name, picture), INFO)
        difference = (image.int() - expected.int()).abs()
        assert difference.max() <= 4, name
    Image.fromarray(light).convert("P").save(tmp_path / "palette.gif")
    assert torch.equal(read_image(tmp_path / "palette.gif", INFO), expected)
    Image.fromarray(light > 0).save(tmp_path / "bits.png")
    assert (read_image(tmp_path / "bits.png", INFO).int() - expected.int()).abs().max() <= 4


@pytest.mark.parametrize(
    ("dtype", "white"),
    [("float32", 1), ("float32", 255), ("int32", 255), ("uint16", 255), ("uint16", 1023), ("int32", 65535)],
)
def test_floats_and_integers_above_8_bits_are_scaled(tmp_path: Path, dtype: str, white: int) -> None:
    expected = read_image(save(tmp_path / "l.png", stroke()), INFO)
    picture = (stroke() / 255 * white).astype(dtype)
    image = read_image(save(tmp_path / "l.tif", picture), INFO)
    assert (image.int() - expected.int()).abs().max() <= 4


@pytest.mark.parametrize("value", [-1.0, 1e6, np.nan, np.inf])
def test_floats_without_a_known_scale_are_refused(tmp_path: Path, value: float) -> None:
    picture = stroke().astype(np.float32)
    picture[3, 3] = value
    with pytest.raises(ValueError, match=r"f\.tif: .*its pixels have values from .*, expected 0 to 65535"):
        read_image(save(tmp_path / "f.tif", picture), INFO)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    (tmp_path / "l.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ValueError, match=r"l\.png is a Git LFS pointer.*git lfs pull"):
        read_image(tmp_path / "l.png", INFO)


def test_a_photographs_orientation_is_heeded(tmp_path: Path) -> None:
    upright = Image.fromarray(stroke())
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    assert torch.equal(*(read_image(tmp_path / name, INFO) for name in ("turned.png", "upright.png")))


@pytest.mark.parametrize(
    ("tag", "kind", "value"),
    [
        (0x011A, 7, b"abcd"),  # the resolution as bytes
        (0x010F, 5, struct.pack("<I", 8)),  # the maker as a fraction, beyond the end
        (0x0102, 11, struct.pack("<f", 1.5)),  # the bits per pixel as a float
        (0x8769, 4, struct.pack("<I", 999)),  # a block of further tags, beyond the end
    ],
)
def test_exif_tags_of_odd_types_do_not_matter(tmp_path: Path, tag: int, kind: int, value: bytes) -> None:
    tags = sorted([(0x0112, 3, struct.pack("<HH", 6, 0)), (tag, kind, value)])
    fields = b"".join(struct.pack("<HHI", tag, kind, 4 if kind == 7 else 1) + v for tag, kind, v in tags)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + fields + bytes(4)
    upright = Image.fromarray(stroke())
    upright.rotate(90, expand=True).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    upright.save(tmp_path / "upright.jpg", quality=95)
    turned, expected = (read_image(tmp_path / name, INFO).int() for name in ("turned.jpg", "upright.jpg"))
    assert (turned - expected).abs().max() <= 24


@pytest.mark.parametrize(("height", "width"), [(1, 40), (300, 2), (2, 2), (28, 28), (1500, 900)])
def test_any_size_is_framed(tmp_path: Path, height: int, width: int) -> None:
    picture = np.zeros((height, width), dtype=np.uint8)
    picture[height // 3 : max(height * 2 // 3, 1), width // 2] = 255
    image = read_image(save(tmp_path / "any.png", picture), INFO)
    assert image.shape == (1, 28, 28)
    assert image.max() == 255


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello", "not an image of a known kind"),
        (b"", "not an image of a known kind"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not an image|can't be read"),
    ],
)
def test_what_is_not_an_image_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"cat.png: ({message})"):
        read_image(path, INFO)


def test_a_cut_image_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)
    whole = save(tmp_path / "whole.png", noise).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.png: can't be read as an image"):
        read_image(tmp_path / "cut.png", INFO)


@pytest.mark.parametrize("brightness", [0, 128, 255])
def test_an_empty_page_is_refused(tmp_path: Path, brightness: int) -> None:
    page = np.full((50, 50), brightness, dtype=np.uint8)
    with pytest.raises(ValueError, match="shows nothing"):
        read_image(save(tmp_path / "page.png", page), INFO)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such file"):
        read_image(tmp_path / "gone.png", INFO)
    with pytest.raises(ValueError, match="a folder, expected an image file"):
        read_image(tmp_path, INFO)


def test_an_enormous_image_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "huge.png", stroke())
    for limit in (7000, 100):  # PIL warns above the limit and refuses above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match=r"huge\.png: too many pixels"):
            read_image(path, INFO)


def test_a_model_of_colours_gets_the_whole_picture(tmp_path: Path) -> None:
    info = replace(INFO, input_shape=(3, 28, 28))
    picture = np.zeros((30, 90, 3), dtype=np.uint8)
    picture[:, 30:60] = (10, 20, 200)
    path = save(tmp_path / "l.png", picture)
    inner = read_image(path, info)[:, 1:-1, 1:-1]
    assert inner.flatten(1).unique(dim=1).tolist() == [[10], [20], [200]]
    assert read_image(path, replace(info, framing="resize"))[:, :, :8].sum() == 0


@pytest.mark.parametrize("shape", [(), (2, 28, 28), (64,)])
def test_a_model_that_takes_no_images_is_told(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not images"):
        read_image(save(tmp_path / "l.png", stroke()), replace(INFO, input_shape=shape))

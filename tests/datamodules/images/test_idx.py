"""Strict IDX parsing: each way a file can be wrong, and the real format's own bytes."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from datamodules.images.idx import read_idx

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
IMAGES = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 4) + PIXELS.tobytes()
LABELS = struct.pack(">BBBBI", 0, 0, 8, 1, 5) + bytes([1, 2, 3, 4, 9])


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_values_and_shape_plain_or_gzip(tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]
    images = read_idx(write(tmp_path / "images", pack(IMAGES)), ndim=3, count=2)
    np.testing.assert_array_equal(images.numpy(), PIXELS)
    labels = read_idx(write(tmp_path / "labels", pack(LABELS)), ndim=1, count=5)
    assert labels.tolist() == [1, 2, 3, 4, 9]


def test_an_empty_set_is_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "none", struct.pack(">BBBBIII", 0, 0, 8, 3, 0, 28, 28))
    assert read_idx(path, ndim=3).shape == (0, 28, 28)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated: 0 bytes"),
        (IMAGES[:3], "truncated: 3 bytes"),
        (IMAGES[:10], "truncated: 10 bytes, but its header alone has 16"),
        (IMAGES[:-1], r"truncated: 23 values, but its header states \(2, 3, 4\), so 24"),
        (IMAGES + b"\0", "bytes left over: 25 values"),
        (LABELS, "wrong magic number 00000801, expected 00000803"),
        (b"\0\0\x0d\3" + IMAGES[4:], "wrong magic number 00000d03, expected 00000803"),
        (b"<html><body>Not found", "wrong magic number 3c68746d"),
        (gzip.compress(IMAGES, mtime=0)[:-12], "truncated or damaged gzip data"),
        (b"\x1f\x8b not really", "truncated or damaged gzip data"),
        (
            gzip.compress(IMAGES, mtime=0)[:20] + b"\xff\xff\xff" + gzip.compress(IMAGES, mtime=0)[23:],
            "damaged gzip data",
        ),
    ],
)
def test_damage_is_named_with_the_file(tmp_path: Path, data: bytes, message: str) -> None:
    path = write(tmp_path / "train-images-idx3-ubyte", data)
    with pytest.raises(ValueError, match=f"train-images-idx3-ubyte: .*{message}"):
        read_idx(path, ndim=3)


def test_a_wrong_count_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images: holds 2 items, expected 60000"):
        read_idx(write(tmp_path / "images", IMAGES), ndim=3, count=60_000)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere", ndim=3)

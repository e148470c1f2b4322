"""The IDX format of the MNIST family: a magic number, the length of each dimension, then raw bytes.

    bytes 0-1   zero
    byte  2     type of the values; these sets only use 0x08, which is uint8
    byte  3     number of dimensions D
    4·D bytes   the length of each dimension, big-endian
    the rest    the values, with the last dimension varying fastest

Source: http://yann.lecun.com/exdb/mnist, "The IDX file format".
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

_UINT8 = 0x08
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path, *, ndim: int, count: int | None = None) -> Tensor:
    """Read an IDX file of unsigned bytes. A gzip-compressed file is recognised by its content.

    Args:
        path: The file.
        ndim: Expected number of dimensions: 3 for images (N, H, W), 1 for labels (N,).
        count: Expected number of items; `None` allows any.

    Returns:
        uint8, in the shape of the header.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an IDX file of this shape, or it is truncated or too long.
    """
    data = _contents(path)
    if len(data) < 4:
        raise ValueError(f"{path}: truncated: {len(data)} bytes, but an IDX header has at least 4")
    if data[:3] != bytes([0, 0, _UINT8]) or data[3] != ndim:
        expected = bytes([0, 0, _UINT8, ndim]).hex()
        raise ValueError(f"{path}: wrong magic number {data[:4].hex()}, expected {expected}")
    header = 4 + 4 * ndim
    if len(data) < header:
        raise ValueError(f"{path}: truncated: {len(data)} bytes, but its header alone has {header}")
    shape = struct.unpack(f">{ndim}I", data[4:header])
    if count is not None and shape[0] != count:
        raise ValueError(f"{path}: holds {shape[0]} items, expected {count}")
    present, stated = len(data) - header, math.prod(shape)
    if present != stated:
        fault = "truncated" if present < stated else "bytes left over"
        raise ValueError(f"{path}: {fault}: {present} values, but its header states {shape}, so {stated}")
    if stated == 0:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=header).view(shape)


def _contents(path: Path) -> bytes:
    data = Path(path).read_bytes()
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: truncated or damaged gzip data: {error}") from error

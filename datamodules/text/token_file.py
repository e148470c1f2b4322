"""Tokens on disk: a header that says what they are, and the ids, mapped into memory when read."""

import os
import struct
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAGIC = b"\x93TOKENS\n"
VERSION = 1
_HEADER = struct.Struct("<8sIIQQ32s32s32x")
"""Magic, version, bytes per token, vocabulary size, token count, both sha256; 128 bytes in all."""
_DTYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """An open token file.

    Attributes:
        tokens: The ids, uint16 or uint32 (N,), mapped copy-on-write: what is changed stays in memory.
        vocab_size: The ids lie in 0 … `vocab_size` − 1.
        source_sha256: Of the UTF-8 text that the tokens were made of, in hexadecimal.
        tokenizer_sha256: Of the tokenizer that made them.
    """

    tokens: np.ndarray[Any, Any]
    vocab_size: int
    source_sha256: str
    tokenizer_sha256: str


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The narrowest type that holds the ids of a vocabulary."""
    return _DTYPES[2 if vocab_size <= 1 << 16 else 4]


def read_token_file(
    path: Path,
    *,
    vocab_size: int | None = None,
    source_sha256: str | None = None,
    tokenizer_sha256: str | None = None,
) -> TokenFile:
    """Map a token file, once its header has been believed.

    Args:
        path: The file.
        vocab_size: What its vocabulary's size must be, if that matters.
        source_sha256: What text it must have been made of.
        tokenizer_sha256: By what tokenizer.

    Raises:
        OSError: It can't be read.
        ValueError: It is no token file, cut off, empty, of another version, or not the expected one.
    """
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
    if len(start) < _HEADER.size or start[: len(MAGIC)] != MAGIC:
        raise ValueError(f"{path} is not a token file")
    _, version, width, vocabulary, count, source, tokenizer = _HEADER.unpack(start)
    if version != VERSION:
        raise ValueError(f"{path} is a token file of version {version}; this program reads {VERSION}")
    if width not in _DTYPES:
        raise ValueError(f"{path} has tokens of {width} bytes; allowed are 2 and 4")
    size, expected = path.stat().st_size, _HEADER.size + width * count
    if size != expected:
        raise ValueError(f"{path} has {size} bytes, but its header speaks of {expected}: it is damaged")
    if count == 0:
        raise ValueError(f"{path} holds no tokens")
    found = {"vocab_size": vocabulary, "source_sha256": source.hex(), "tokenizer_sha256": tokenizer.hex()}
    wanted = {"vocab_size": vocab_size, "source_sha256": source_sha256, "tokenizer_sha256": tokenizer_sha256}
    for name, value in wanted.items():
        if value is not None and found[name] != value:
            raise ValueError(f"{path} has {name} {found[name]}, expected {value}")
    tokens = np.memmap(path, dtype=_DTYPES[width], mode="c", offset=_HEADER.size, shape=(count,))
    return TokenFile(tokens=tokens, **found)


def write_token_file(
    path: Path,
    pieces: Iterable[Any],
    *,
    vocab_size: int,
    source_sha256: str,
    tokenizer_sha256: str,
) -> int:
    """Write tokens as they come; the file appears under its name only when it is whole.

    Args:
        path: The file; its folder must exist.
        pieces: Sequences of ids, joined in the file; one of them is held at a time.
        vocab_size: See `TokenFile`, also for the two sums.
        source_sha256: In hexadecimal.
        tokenizer_sha256: In hexadecimal.

    Returns:
        The number of tokens.

    Raises:
        ValueError: An id is not in the vocabulary.
    """
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as file:
            file.write(bytes(_HEADER.size))
            count = _append(file, pieces, vocab_size)
            sums = bytes.fromhex(source_sha256), bytes.fromhex(tokenizer_sha256)
            file.seek(0)
            width = token_dtype(vocab_size).itemsize
            file.write(_HEADER.pack(MAGIC, VERSION, width, vocab_size, count, *sums))
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return count


def _append(file: BinaryIO, pieces: Iterable[Any], vocab_size: int) -> int:
    count = 0
    for piece in pieces:
        ids = np.asarray(piece, dtype=np.int64)
        if len(ids) and not (ids.min() >= 0 and ids.max() < vocab_size):
            raise ValueError(f"token {ids[(ids < 0) | (ids >= vocab_size)][0]} is not among the {vocab_size}")
        file.write(ids.astype(token_dtype(vocab_size)).tobytes())
        count += len(ids)
    return count

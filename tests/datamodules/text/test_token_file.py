"""Token files: what is written comes back, and nothing else is taken for one."""

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.text.token_file import read_token_file, token_dtype, write_token_file

SOURCE, TOKENIZER = "ab" * 32, "cd" * 32
SUMS = {"source_sha256": SOURCE, "tokenizer_sha256": TOKENIZER}


def write(path: Path, pieces: Any = ((0, 1, 2), (3,)), vocab_size: int = 10) -> int:
    return write_token_file(path, pieces, vocab_size=vocab_size, **SUMS)


@pytest.mark.parametrize(
    ("vocab_size", "dtype", "ids"),
    [
        (1, np.uint16, [0]),
        (65_536, np.uint16, [0, 65_535, 32_768, 7]),
        (65_537, np.uint32, [65_536, 0, 1]),
        (1 << 32, np.uint32, [(1 << 32) - 1]),
    ],
)
def test_tokens_come_back_in_the_narrowest_type(
    tmp_path: Path, vocab_size: int, dtype: type, ids: list[int]
) -> None:
    path = tmp_path / "a.tokens"
    assert write(path, [ids[:1], [], np.array(ids[1:])], vocab_size) == len(ids)
    found = read_token_file(path, vocab_size=vocab_size, **SUMS)
    assert found.tokens.dtype == token_dtype(vocab_size) == dtype
    assert found.tokens.tolist() == ids
    assert (found.vocab_size, found.source_sha256, found.tokenizer_sha256) == (vocab_size, SOURCE, TOKENIZER)


def test_the_header_is_as_documented(tmp_path: Path) -> None:
    write(tmp_path / "a.tokens")
    data = (tmp_path / "a.tokens").read_bytes()
    assert data[:8] == b"\x93TOKENS\n"
    assert struct.unpack_from("<IIQQ", data, 8) == (1, 2, 10, 4)
    assert data[32:96].hex() == SOURCE + TOKENIZER
    assert data[128:] == struct.pack("<4H", 0, 1, 2, 3)


def test_the_map_can_be_a_tensor_and_never_changes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tokens"
    write(path)
    before = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch warns of arrays that can't be written
        tensor = torch.from_numpy(read_token_file(path).tokens)
    tensor[:] = 9
    assert tensor.tolist() == [9] * 4
    assert path.read_bytes() == before


def test_pieces_are_written_as_they_come(tmp_path: Path) -> None:
    """One at a time, so that a text of any size fits in memory."""
    alive: list[Any] = []

    def pieces() -> Any:
        for _ in range(50):
            ids = np.zeros(1000, dtype=np.int64)
            alive.append(ids.ctypes.data)
            yield ids
            del ids

    assert write(tmp_path / "a.tokens", pieces()) == 50_000
    assert len(set(alive)) < 10


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tokens"
    write(path, [[7]])

    def broken() -> Any:
        yield [1, 2]
        assert read_token_file(path).tokens.tolist() == [7]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, broken())
    assert read_token_file(path).tokens.tolist() == [7]
    assert [p.name for p in tmp_path.iterdir()] == ["a.tokens"]


@pytest.mark.parametrize("id", [-1, 10, 1 << 40])
def test_an_id_beyond_the_vocabulary_is_refused(tmp_path: Path, id: int) -> None:
    with pytest.raises(ValueError, match=f"token {id} is not among the 10"):
        write(tmp_path / "a.tokens", [[1], [2, id]])
    assert list(tmp_path.iterdir()) == []


def change(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: b"", "is not a token file"),
        (lambda d: d[:100], "is not a token file"),
        (lambda d: b"GGUF" + d[4:], "is not a token file"),
        (lambda d: bytes(200), "is not a token file"),
        (lambda d: change(d, 8, b"\x02"), "of version 2; this program reads 1"),
        (lambda d: change(d, 12, b"\x03"), "tokens of 3 bytes; allowed are 2 and 4"),
        (lambda d: d[:-1], "has 135 bytes, but its header speaks of 136: it is damaged"),
        (lambda d: d + b"\0", "has 137 bytes, but its header speaks of 136"),
        (lambda d: change(d, 24, b"\xff" * 8), "it is damaged"),
        (lambda d: change(d[:128], 24, bytes(8)), "holds no tokens"),
    ],
)
def test_what_is_no_whole_token_file_is_refused_in_a_line(tmp_path: Path, damage: Any, message: str) -> None:
    path = tmp_path / "a.tokens"
    write(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        read_token_file(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"vocab_size": 11}, "has vocab_size 10, expected 11"),
        ({"source_sha256": "00" * 32}, f"has source_sha256 {SOURCE}, expected 00"),
        ({"tokenizer_sha256": "00" * 32}, f"has tokenizer_sha256 {TOKENIZER}, expected 00"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, expected: Any, message: str) -> None:
    write(tmp_path / "a.tokens")
    with pytest.raises(ValueError, match=message):
        read_token_file(tmp_path / "a.tokens", **expected)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_token_file(tmp_path / "none.tokens")

"""Token files: ids come back unchanged, and any damage is reported."""

import hashlib
import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.text.token_file import TokenOrigin, read_token_file, token_dtype, write_token_file

ORIGIN = TokenOrigin(vocab_size=10, source_sha256="ab" * 32, tokenizer_sha256="cd" * 32)


def write(path: Path, pieces: Any = ((0, 1, 2), (3,)), vocab_size: int = 10) -> int:
    return write_token_file(path, pieces, replace(ORIGIN, vocab_size=vocab_size))


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
    path = tmp_path / "a.npy"
    assert write(path, [ids[:1], [], np.array(ids[1:])], vocab_size) == len(ids)
    tokens = read_token_file(path, replace(ORIGIN, vocab_size=vocab_size))
    assert tokens.dtype == token_dtype(vocab_size) == dtype
    assert tokens.tolist() == ids


@pytest.mark.parametrize("count", [1, 9, 10, 12_345])
def test_numpy_writes_the_same_file(tmp_path: Path, count: int) -> None:
    ids = np.arange(count, dtype=np.uint16) % 10
    write(tmp_path / "ours.npy", np.array_split(ids, 3))
    np.save(tmp_path / "numpys.npy", ids)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpys.npy").read_bytes()


def test_the_description_is_complete(tmp_path: Path) -> None:
    write(tmp_path / "a.npy")
    digest = hashlib.sha256((tmp_path / "a.npy").read_bytes()).hexdigest()
    expected = {"count": 4, "dtype": "<u2", "sha256": digest, **asdict(ORIGIN)}
    assert json.loads((tmp_path / "a.json").read_text()) == expected


def test_a_tensor_of_the_map_never_changes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    write(path)
    before = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch warns about read-only arrays
        tensor = torch.from_numpy(read_token_file(path, ORIGIN))
    tensor[:] = 9
    assert tensor.tolist() == [9] * 4
    assert path.read_bytes() == before


def test_pieces_are_written_as_they_come(tmp_path: Path) -> None:
    """A text of any size needs the memory of one piece."""
    alive: list[Any] = []

    def pieces() -> Any:
        for _ in range(50):
            ids = np.zeros(1000, dtype=np.int64)
            alive.append(ids.ctypes.data)
            yield ids
            del ids

    assert write(tmp_path / "a.npy", pieces()) == 50_000
    assert len(set(alive)) < 10


@pytest.mark.parametrize("id", [-1, 10, 1 << 40])
def test_an_id_outside_the_vocabulary_is_refused(tmp_path: Path, id: int) -> None:
    with pytest.raises(ValueError, match=f"token {id} is outside the vocabulary of 10 tokens"):
        write(tmp_path / "a.npy", [[1], [2, id]])


def test_no_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tokens to write to .*a\.npy"):
        write(tmp_path / "a.npy", [[], []])


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    write(path)
    good = path.read_bytes()
    for position in range(len(good)):
        flipped = bytes([*good[:position], good[position] ^ 1, *good[position + 1 :]])
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"a\.npy is damaged: its sha256 is \w+, expected \w+$"):
            read_token_file(path, ORIGIN)


@pytest.mark.parametrize("content", [b"", b"GGUF", bytes(200)])
@pytest.mark.parametrize("name", ["a.npy", "a.json"])
def test_other_content_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    write(tmp_path / "a.npy")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: ") as error:
        read_token_file(tmp_path / "a.npy", ORIGIN)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", r"a\.json is damaged: expected a JSON object"),
        ("{}", "has vocab_size None, expected 10"),
        (json.dumps(asdict(ORIGIN)), r"a\.npy is damaged: its sha256 is \w+, expected None"),
    ],
)
def test_an_incomplete_description_is_refused(tmp_path: Path, content: str, message: str) -> None:
    write(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_token_file(tmp_path / "a.npy", ORIGIN)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vocab_size": 11}, "has vocab_size 10, expected 11"),
        ({"source_sha256": "00" * 32}, f"has source_sha256 {ORIGIN.source_sha256}, expected 00"),
        ({"tokenizer_sha256": "00" * 32}, f"has tokenizer_sha256 {ORIGIN.tokenizer_sha256}, expected 00"),
    ],
)
def test_a_file_from_another_origin_is_refused(tmp_path: Path, changed: Any, message: str) -> None:
    write(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=message):
        read_token_file(tmp_path / "a.npy", replace(ORIGIN, **changed))


@pytest.mark.parametrize("missing", ["a.npy", "a.json"])
def test_a_missing_file_is_an_os_error(tmp_path: Path, missing: str) -> None:
    write(tmp_path / "a.npy")
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        read_token_file(tmp_path / "a.npy", ORIGIN)

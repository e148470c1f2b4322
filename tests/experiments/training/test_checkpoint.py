"""A checkpoint's file is the old one or the new one, never half of one, and reading it runs nothing."""

import errno
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.errors import RunError
from experiments.training import checkpoint
from experiments.training.checkpoint import AtomicCheckpointIO, CheckpointError, UnreadableError

PLAIN: dict[str, Any] = {"config": {"a": [1, None, "x"]}, "info": {}, "state_dict": {"w": torch.arange(9.0)}}


class SmallDisk(io.FileIO):
    """A file on a disk that is full after 2 kB."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 2048:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda self, mode: SmallDisk(self, mode))


def test_what_is_written_is_read(work: Path) -> None:
    path = work / "folder" / "x.ckpt"
    AtomicCheckpointIO().save_checkpoint(PLAIN, path)
    read = checkpoint.load(path)
    assert read["config"] == PLAIN["config"]
    assert torch.equal(read["state_dict"]["w"], PLAIN["state_dict"]["w"])
    assert [p.name for p in path.parent.iterdir()] == ["x.ckpt"]


def test_a_write_that_fails_leaves_the_old_file(work: Path, small_disk: None) -> None:
    path = work / "x.ckpt"
    AtomicCheckpointIO().save_checkpoint(PLAIN, path)
    before = path.read_bytes()
    large = {**PLAIN, "state_dict": {"w": torch.zeros(100_000)}}
    with pytest.raises(RunError, match=r"cannot write the checkpoint .*x\.ckpt: No space left"):
        AtomicCheckpointIO().save_checkpoint(large, path)
    assert path.read_bytes() == before
    assert [p.name for p in work.iterdir()] == ["x.ckpt"]


def test_the_old_file_is_whole_until_the_new_one_is(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = work / "x.ckpt"
    AtomicCheckpointIO().save_checkpoint(PLAIN, path)
    seen = []
    save = torch.save

    def watched(value: Any, file: Any) -> None:
        save(value, file)
        seen.append(int(checkpoint.load(path)["state_dict"]["w"].sum()))

    monkeypatch.setattr(torch, "save", watched)
    AtomicCheckpointIO().save_checkpoint({**PLAIN, "state_dict": {"w": torch.ones(3)}}, path)
    assert seen == [36]
    assert int(checkpoint.load(path)["state_dict"]["w"].sum()) == 3


def test_a_file_cut_anywhere_is_refused(work: Path) -> None:
    path = work / "x.ckpt"
    AtomicCheckpointIO().save_checkpoint(PLAIN, path)
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"x\.ckpt"):
            checkpoint.load(path)


def test_a_flipped_bit_in_the_weights_is_found(work: Path) -> None:
    path = work / "x.ckpt"
    weights = torch.full((64,), 1.2345)
    AtomicCheckpointIO().save_checkpoint({**PLAIN, "state_dict": {"w": weights}}, path)
    data = bytearray(path.read_bytes())
    place = data.index(weights.numpy().tobytes())
    data[place + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def test_a_file_that_would_run_something_is_refused_unrun(work: Path) -> None:
    path = work / "x.ckpt"
    torch.save({**PLAIN, "more": Trap()}, path)
    with pytest.raises(CheckpointError, match="more than plain data"):
        checkpoint.load(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        checkpoint.load(path)
    assert not Path("sprung").exists()


def test_foreign_files_are_refused_by_what_they_lack(work: Path) -> None:
    path = work / "x.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="lacks config, info"):
        checkpoint.load(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this suite"):
        checkpoint.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoint|not a checkpoint"):
        checkpoint.load(path)
    path.write_text("hello")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        checkpoint.load(path)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        checkpoint.load(work / "nowhere.ckpt")
    with pytest.raises(UnreadableError, match="Is a directory; nothing was changed"):
        checkpoint.load(work)

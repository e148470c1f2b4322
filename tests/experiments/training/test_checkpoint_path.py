"""A checkpoint is found by its file, its folder or its run; a near miss is suggested."""

import os
import re
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.training.checkpoint_path import find_checkpoint


def test_a_checkpoint_is_found_by_file_folder_or_run(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"no checkpoint in .*run.checkpoints"):
        find_checkpoint(tmp_path / "run")
    with pytest.raises(UserError, match=r"there is no checkpoint .*x\.ckpt"):
        find_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="is a device or a pipe, not a checkpoint"):
        find_checkpoint(os.devnull)
    (folder.parent / "adapter").mkdir()
    (folder.parent / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="holds an adapter, not a checkpoint; name its run directory"):
        find_checkpoint(folder.parent / "adapter")
    (folder / "last.ckpt").write_bytes(b"")
    assert find_checkpoint(tmp_path / "run") == folder / "last.ckpt"
    (folder / "best.ckpt").write_bytes(b"")
    for argument in (tmp_path / "run", folder, str(folder / "best.ckpt")):
        assert find_checkpoint(argument) == folder / "best.ckpt"


@pytest.mark.parametrize(
    ("argument", "suggestion"),
    [
        ("smol", "smollm2"),
        ("runs/ml", "runs/mnist_mlp"),
        ("runs/mnist_mpl/late/checkpoints/best.ckpt", "runs/mnist_mlp"),
        ("rnus/mnist_mlp", "runs"),
        ("runs/transformer", None),
    ],
)
def test_a_near_miss_is_suggested(
    argument: str, suggestion: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "mnist_mlp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    said = f"there is no checkpoint {argument}" + (f" (did you mean {suggestion}?)" if suggestion else "")
    with pytest.raises(UserError, match=f"^{re.escape(said)}$"):
        find_checkpoint(argument, names=("smollm2",))


def test_the_newest_run_of_a_folder_is_named(tmp_path: Path) -> None:
    run = tmp_path / "mnist_mlp" / "late"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=re.escape(f"; the newest run in it is {run}")):
        find_checkpoint(tmp_path / "mnist_mlp")

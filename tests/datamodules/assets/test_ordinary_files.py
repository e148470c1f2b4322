"""Devices, pipes and Git LFS pointers are refused by every reader of data; any other file passes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.assets.ordinary_files import check_ordinary
from datamodules.configs.table import TableConfig
from datamodules.images.image_files import read_image
from datamodules.images.photos import read_photo
from datamodules.info import ImageInfo
from datamodules.prompts.records import read_records
from datamodules.steering_pairs import read_tensors
from datamodules.tables.table_file import read_table
from datamodules.text.pronunciation_dictionary import read_dictionary
from datamodules.text.text_source import TextFiles
from datamodules.tokenizers.gpt2_files import read_gpt2_files
from datamodules.tokenizers.tokenizer_json import read_tokenizer_json
from experiments.errors import UserError
from experiments.language_models.pretrained_models import open_pretrained
from experiments.steering.states_manifest import read_manifest
from experiments.training import checkpoint

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
IMAGES = ImageInfo(
    input_shape=(1, 8, 8),
    class_names=("0", "1"),
    mean=(0.5,),
    std=(0.5,),
    object_size=8,
    object_center="box",
    train_size=1,
    val_size=1,
    test_size=1,
)


def test_only_a_pointer_is_refused(tmp_path: Path) -> None:
    contents = {"pointer": POINTER, "text": "version 1", "empty": "", "quote": f"> {POINTER}"}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    others = [tmp_path / name for name in ("text", "empty", "quote", "missing")]
    check_ordinary(*others, tmp_path)
    with pytest.raises(ValueError, match=r"pointer is a Git LFS pointer, not the file itself; run `git lfs"):
        check_ordinary(*others, tmp_path / "pointer")


@pytest.mark.parametrize("kind", ["device", "pipe"])
@pytest.mark.parametrize(
    "read",
    [
        read_dictionary,
        read_tensors,
        read_tokenizer_json,
        read_manifest,
        checkpoint.load,
        lambda path: open_pretrained(str(path)),
        lambda path: open_pretrained(str(path.parent)),
        lambda path: read_gpt2_files(path.parent),
        lambda path: read_image(path, IMAGES),
        lambda path: read_photo(path, (3, 8, 8), fit="crop"),
        lambda path: read_table(path, TableConfig(path=str(path))),
        lambda path: read_records(path, ["side", "text"]),
        lambda path: list(TextFiles((path,)).chunks()),
    ],
)
def test_no_reader_waits_for_a_device_or_a_pipe(
    read: Callable[[Path], object], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "vocab.json"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises((ValueError, UserError)) as error:
        read(path)
    assert "is a device, a pipe or a socket" in str(error.value.__cause__ or error.value)

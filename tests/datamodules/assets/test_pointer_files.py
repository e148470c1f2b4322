"""A Git LFS pointer is recognised by its content; any other file passes."""

from pathlib import Path

import pytest

from datamodules.assets.pointer_files import check_not_pointer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def test_only_a_pointer_is_refused(tmp_path: Path) -> None:
    contents = {"pointer": POINTER, "text": "version 1", "empty": "", "quote": f"> {POINTER}"}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    others = [tmp_path / name for name in ("text", "empty", "quote", "missing")]
    check_not_pointer(*others, tmp_path)
    with pytest.raises(ValueError, match=r"pointer is a Git LFS pointer, not the file itself; run `git lfs"):
        check_not_pointer(*others, tmp_path / "pointer")

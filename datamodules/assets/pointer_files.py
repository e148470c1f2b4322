"""Recognise the pointer files of Git LFS, which a clone without LFS has in place of large files."""

from pathlib import Path

_BEGINNING = b"version https://git-lfs.github.com/spec/"


def check_not_pointer(*paths: Path) -> None:
    """Refuse files that are Git LFS pointers. Files that can't be read pass: their reader names the error.

    Raises:
        ValueError: Names the first pointer.
    """
    for path in paths:
        try:
            with path.open("rb") as file:
                is_pointer = file.read(len(_BEGINNING)) == _BEGINNING
        except (OSError, ValueError):
            continue
        if is_pointer:
            raise ValueError(
                f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository, "
                "or download the file"
            )

"""Refuse what only looks like a file with data: devices, pipes, and the pointers of Git LFS."""

import stat
from pathlib import Path

_POINTER = b"version https://git-lfs.github.com/spec/"


def check_ordinary(*paths: Path) -> None:
    """Refuse devices, pipes and sockets, whose reading may never end, and Git LFS pointers.

    Folders, and files that are missing or can't be read, pass: their reader names the error.

    Raises:
        ValueError: Names the first such path.
    """
    for path in paths:
        try:
            mode = path.stat().st_mode
            if stat.S_ISREG(mode):
                with path.open("rb") as file:
                    beginning = file.read(len(_POINTER))
        except (OSError, ValueError):
            continue
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} can't be read: it is a device, a pipe or a socket, not a file")
        if beginning == _POINTER:
            raise ValueError(
                f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository, "
                "or download the file"
            )

"""List the files of a folder; refuse what only looks like data: devices, pipes, Git LFS pointers."""

import os
import stat
from collections.abc import Iterator
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


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, without hidden ones.

    Links are followed, but a folder is read only once. Devices, pipes and sockets are left out.

    Raises:
        ValueError: A folder can't be read, or a link is broken.
    """

    def fail(error: OSError) -> None:
        raise ValueError(f"{error.filename} can't be read: {error.strerror}") from error

    seen: set[Path] = set()
    for parent, subfolders, names in os.walk(folder, followlinks=True, onerror=fail):
        real = Path(parent).resolve()
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            if path.is_file():
                yield path
            elif path.is_symlink():
                raise ValueError(f"{path} is a broken link; remove it")

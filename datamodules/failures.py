"""The error of a run that fails for a known reason, and writes to files that raise it.

The folder `experiments` uses them too.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


class RunError(RuntimeError):
    """The run failed for a known reason; the exit status is 1."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write (full disk, no permission, directory gone) into one line that names the file.

    Raises:
        RunError: The operating system refused.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside a file, and rename it to the file at the end.

    If the process is killed, the old file or the new one remains, complete. After an error, the temporary
    file is removed.

    Raises:
        RunError: The operating system refused.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        try:
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):  # it must not hide the first error
                temporary.unlink()
            raise

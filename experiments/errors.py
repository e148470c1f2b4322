"""Errors that a user can act on. A command prints each as one line without a traceback."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


class UserError(ValueError):
    """The command line, the config or an input is wrong; the exit status is 2."""


class RunError(RuntimeError):
    """The run failed for a known reason; the exit status is 1."""


class Interrupted(BaseException):
    """A signal stopped the run.

    Attributes:
        signum: The signal.
        run_dir: The run, study or chain to continue.
        path: The checkpoint with its state; `None` if nothing was saved yet.

    It is not an `Exception`, so that handlers of failures let it pass, and not a `KeyboardInterrupt`, which
    Lightning catches.
    """

    def __init__(self, signum: int, run_dir: Path, path: Path | None) -> None:
        super().__init__(signum, run_dir, path)
        self.signum = signum
        self.run_dir = run_dir
        self.path = path


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

    A kill leaves the old file or the new one. After an error, the temporary file is removed.

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

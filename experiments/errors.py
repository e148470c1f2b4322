"""Errors that a user can act on. A command prints each as one line without a traceback."""

from pathlib import Path

from datamodules.failures import RunError, replacing, writing

__all__ = ["EndedEarlyError", "Interrupted", "RunError", "UserError", "replacing", "writing"]


class UserError(ValueError):
    """The command line, the config or an input is wrong; the exit status is 2."""


class EndedEarlyError(RunError):
    """A sweep ended a fit early, because it was worse than the others."""


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

"""The ways a run ends that a person can act on: each is one clear line, and none shows a traceback."""

from pathlib import Path


class UserError(ValueError):
    """The command line or the config is wrong; the command exits with status 2."""


class RunError(RuntimeError):
    """The run itself failed, for a reason that one line explains; the command exits with status 1."""


class Interrupted(BaseException):
    """A signal asked the run to stop.

    Attributes:
        signum: The signal.
        run_dir: The run, study or chain to continue.
        path: The checkpoint that holds its state; `None` when there is none yet.

    Not an Exception, as KeyboardInterrupt is none, and not a KeyboardInterrupt, which Lightning swallows.
    """

    def __init__(self, signum: int, run_dir: Path, path: Path | None) -> None:
        super().__init__(signum, run_dir, path)
        self.signum = signum
        self.run_dir = run_dir
        self.path = path

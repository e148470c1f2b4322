"""The ways a run ends that a person can act on: each is one clear line, and none shows a traceback."""

from pathlib import Path


class UserError(ValueError):
    """The command line or the config is wrong; the command exits with status 2."""


class RunError(RuntimeError):
    """The run itself failed, for a reason that one line explains; the command exits with status 1."""


class Interrupted(BaseException):
    """A signal asked the run to stop, and a checkpoint now holds the state to resume from.

    Not an Exception, as KeyboardInterrupt is none, and not a KeyboardInterrupt, which Lightning swallows.
    """

    def __init__(self, signum: int, path: Path) -> None:
        super().__init__(signum, path)
        self.signum = signum
        self.path = path

"""Make Ctrl-C end a command quietly while it is still importing.

`experiments/__init__.py` imports this module first. Only a process that was started as one of the commands is
affected, not a program that imports `experiments`. `experiments.cli` takes over later.
"""

import itertools
import os
import signal
import sys
from types import FrameType


def _end(signum: int, frame: FrameType | None) -> None:
    # An exception could be caught by the module that is being imported.
    os.write(2, b"interrupted\n")
    os._exit(128 + signum)


def is_command() -> bool:
    """Return whether this process was started as `python -m experiments…` or as `experiments`."""
    modules = (word for option, word in itertools.pairwise(sys.orig_argv) if option == "-m")
    name = next(modules, "").partition(".")[0]
    return name == "experiments" or os.path.basename(sys.argv[0]) == "experiments"


def hand_over() -> None:
    """Raise `KeyboardInterrupt` on Ctrl-C again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)

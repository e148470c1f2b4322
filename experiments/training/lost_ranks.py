"""If one process of a run dies, stop the others, and say so in one line.

Rank zero starts the other ranks of its machine, and all wait for each other: for up to 30 minutes when they
connect, and for minutes in a collective on GPUs. So rank zero watches the processes that it has started, and
they watch rank zero. Under torchrun and SLURM the launcher does this.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

from experiments.errors import RunError, UserError
from experiments.training import lightning_adapter

RANK_ZERO_VARIABLE = "EXPERIMENTS_RANK_ZERO"
"""Environment variable with the process number of rank zero, for the ranks that it starts."""
GRACE = 10.0
"""Seconds in which the main thread may notice the loss by itself and end in order."""
POLL = 0.5
"""Seconds between two looks at the other processes."""

_children: list[subprocess.Popen[bytes]] = []
"""The other ranks of this machine, in rank zero."""
_watching = False
_running = threading.Event()
"""Set while this process depends on the other ranks."""


@contextlib.contextmanager
def lost_ranks_named() -> Iterator[None]:
    """Watch the other ranks, and name the one whose end made this process fail.

    If rank zero fails for another reason, it ends the other ranks first. They would report the lost
    connection.

    Raises:
        RunError: Another process has ended.
    """
    _start_watching()
    _running.set()
    try:
        yield
    except (UserError, RunError):
        _end_children()
        raise
    except Exception as error:
        lost = _wait_for_loss(1.0) if _children or _was_started() else None
        _end_children()
        if lost is None:
            raise
        raise RunError(lost) from error
    finally:
        _running.clear()
        if not _was_started():
            os.environ.pop(RANK_ZERO_VARIABLE, None)


def _start_watching() -> None:
    if _was_started():
        if RANK_ZERO_VARIABLE in os.environ:
            _watch()
        return
    os.environ[RANK_ZERO_VARIABLE] = str(os.getpid())
    lightning_adapter.watch_ranks(_adopt)


def _adopt(children: Sequence[subprocess.Popen[bytes]]) -> None:
    _children[:] = children
    _watch()


def _watch() -> None:
    """Wait in a thread for the loss of another rank, and end this process if it does not end by itself."""
    global _watching

    def watch() -> None:
        while True:
            if _running.is_set() and _loss() is not None:
                time.sleep(GRACE)
                if _running.is_set() and (lost := _loss()) is not None:  # the main thread waits
                    os.write(2, f"error: {lost}\n".encode())
                    _end_children()
                    os._exit(1)
            time.sleep(POLL)

    if not _watching:
        _watching = True
        threading.Thread(target=watch, daemon=True).start()


def _wait_for_loss(seconds: float) -> str | None:
    """Return which rank has ended; its connections close a moment before its process is gone."""
    until = time.monotonic() + seconds
    while (lost := _loss()) is None and time.monotonic() < until:
        time.sleep(0.02)
    return lost


def _loss() -> str | None:
    """Return a line about another rank that has failed; `None` if there is none."""
    if _was_started():
        gone = os.environ.get(RANK_ZERO_VARIABLE, str(os.getppid())) != str(os.getppid())
        return _line(0, "has ended") if gone else None
    for rank, child in enumerate(_children, 1):
        status = child.poll()
        if status:
            how = f"status {status}" if status > 0 else signal.Signals(-status).name
            return _line(rank, f"ended with {how}")
    return None


def _line(rank: int, what: str) -> str:
    return f"the process of local rank {rank} {what}, so the run stops; resume=auto continues it"


def _end_children() -> None:
    for child in _children:
        with contextlib.suppress(OSError):
            child.kill()
    _children.clear()


def _was_started() -> bool:
    """Return whether another process of this machine started this one as a rank."""
    return int(os.environ.get("LOCAL_RANK") or 0) > 0

"""Let one process at a time write a run directory.

The owner holds a lock of the operating system on the file `.lock` in the directory. The lock ends with its
process, however that ends. The file `.owner` names the process, for the message to others. Both files are
removed when the run ends.

On a local disk the lock is certain. On NFS it holds between hosts if server and mount offer locks: NFS
version 4, or version 3 with lockd, but not with the mount options `nolock` and `local_lock`. After a host
has crashed, a server of version 4 frees its locks after the lease, usually 90 seconds; one of version 3 when
the host is up again. On a file system without locks, such as Lustre without the mount option `flock`, the
file `.lock` itself is the lock. It then outlives a killed process, and has to be removed by hand.
"""

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from experiments.errors import UserError, writing

LOCK, OWNER = ".lock", ".owner"
_held: dict[Path, FileLock] = {}
"""The locks of this process by the resolved path of their directory."""


class InUseError(UserError):
    """Another process writes the run directory."""


def claim(folder: Path, *, wait: float = 0.0) -> None:
    """Keep other processes from writing a run directory, until `release` or the end of this process.

    A directory that this process cannot write is not locked: a run in it fails at its first file.

    Args:
        folder: An existing run directory. If this process has claimed it already, nothing happens.
        wait: Seconds to wait for the process that has it.

    Raises:
        InUseError: Another process has claimed it.
    """
    place = folder.resolve()
    if place in _held:
        return
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise InUseError(
            f"{folder} is in use by {_name(owner(folder))}; wait until it ends, or choose another run_dir"
        ) from None
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and not os.access(folder, os.W_OK):
            return
        with writing(folder / LOCK):
            raise
    _held[place] = lock
    who = {"pid": os.getpid(), "host": socket.gethostname(), "job": slurm_step()}
    with contextlib.suppress(OSError):  # only a message would lack it
        (folder / OWNER).write_text(json.dumps(who), encoding="utf-8")


def release(folder: Path) -> None:
    """Let other processes write a run directory again."""
    lock = _held.pop(folder.resolve(), None)
    if lock is None:
        return
    # A waiting process that has opened the removed file notices it and opens the next one.
    for name in (OWNER, LOCK):
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    lock.release()


@contextlib.contextmanager
def claims_end() -> Iterator[None]:
    """Release at the end all directories that were claimed inside."""
    before = set(_held)
    try:
        yield
    finally:
        for place in set(_held) - before:
            release(place)


def owner(folder: Path) -> dict[str, Any]:
    """Return process, host and SLURM step of the last owner of a directory; empty if unknown."""
    try:
        who = json.loads((folder / OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return who if isinstance(who, dict) else {}


def _name(who: dict[str, Any]) -> str:
    return f"process {who['pid']} on {who['host']}" if {"pid", "host"} <= who.keys() else "another process"


def slurm_step() -> str | None:
    """Return the numbers that all ranks of one `srun` share; `None` if it did not start several ranks.

    A shell that `srun --pty` starts has the variables of a rank, but each of its commands is its own run.
    """
    environment = os.environ
    is_shell = environment.get("SLURM_JOB_NAME") in ("bash", "interactive") or (
        sys.stdin is not None and sys.stdin.isatty()
    )
    if is_shell or "SLURM_STEP_ID" not in environment or int(environment.get("SLURM_NTASKS") or 1) < 2:
        return None
    # A job that is queued again keeps its number but counts its restarts.
    return "-".join(
        environment.get(key, "0") for key in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    )

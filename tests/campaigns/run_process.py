"""What campaigns share: their command line, and forks of a process that has imported the libraries."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from experiments.launch import main as run_command

LIMIT = 300
"""Seconds after which a process counts as hanging."""


def fork(job: Callable[[], int | None], log: Path) -> int:
    """Run a function in a fork that leads its own group; return the number of the process.

    Its output is appended to `log`, and its exit status is what the function returns.
    """
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    status = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores Ctrl-C
        status = job() or 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run_here(arguments: list[str]) -> int:
    """Run the command `experiments.run` in this process; return its status."""
    sys.argv = ["experiments.run", *arguments]
    return run_command(arguments) or 0


def wait(process: int, signum: int | None = None, seconds: float | None = None) -> int:
    """Wait until a process and its group are gone; return its exit status, negative for a signal.

    Args:
        process: The leader of the group.
        signum: A signal to send to it.
        seconds: When to send it, counted from the call; `None` for never.
    """
    begun = time.monotonic()
    sent = seconds is None
    while True:
        pid, status = os.waitpid(process, os.WNOHANG)
        if pid:
            break
        waited = time.monotonic() - begun
        if not sent and seconds is not None and signum is not None and waited >= seconds:
            os.kill(process, signum)
            sent = True
        if waited > LIMIT:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.002)
    wait_for_group(process)
    return os.waitstatus_to_exitcode(status)


def wait_for_group(leader: int) -> None:
    """Wait until the processes that a killed leader had started are gone.

    Raises:
        SystemExit: They do not end.
    """
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if not processes_of_group(leader):
            return
        time.sleep(0.01)
    raise SystemExit(f"processes of group {leader} do not end")


def processes_of_group(leader: int) -> list[int]:
    """Return the living processes of a group (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(group) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


def numbered_cases(doc: str | None, name: str, *, count: int, what: str) -> argparse.ArgumentParser:
    """Return the parser of a campaign whose cases have numbers, so that each can be repeated alone."""
    parser = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog=f"tests.campaigns.{name}",
    )
    parser.add_argument("--count", type=int, default=count, help=f"Number of {what} (default: {count}).")
    parser.add_argument("--seed", type=int, default=0, help="Seed of all random draws (default: 0).")
    parser.add_argument("--start", type=int, default=0, help="Number of the first case (default: 0).")
    return parser

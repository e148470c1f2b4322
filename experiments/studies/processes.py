"""Run each fit of a study in its own process, so that a crash or a memory leak stays in that process.

On Linux, processes are forked from a server that has imported the libraries and computed nothing. This saves
each fit the seconds that the imports take. On other systems, each process is a fresh interpreter.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from typing import Any

_PRELOADED = ["experiments.training.fit", "torchmetrics", "torch.utils.tensorboard"]
"""Modules that the server imports before it forks."""


def run_in_process(job: Callable[..., None], arguments: tuple[Any, ...]) -> tuple[int, int | None]:
    """Run a function in its own process and wait for it; see `run_in_processes`."""
    (status,), signum = run_in_processes(job, [arguments])
    return status, signum


def run_in_processes(
    job: Callable[..., None], each: Sequence[tuple[Any, ...]]
) -> tuple[list[int], int | None]:
    """Run a function in a process for each of several arguments, at the same time, and wait for all.

    SIGINT and SIGTERM are both passed on as SIGTERM, because an interpreter that is still importing ends
    silently on SIGTERM. If this process dies, the others get SIGTERM too.

    Args:
        job: A function of a module, with picklable arguments.
        each: Positional arguments of `job` for each process.

    Returns:
        The exit statuses, and the signal that stopped them: the first one that arrived while waiting, or
        else one that a process ended by. `None` if there is none.
    """
    context = _process_context()
    processes = [context.Process(target=_run, args=(job, arguments)) for arguments in each]
    received: list[int] = []

    def forward(signum: int, frame: Any) -> None:
        received.append(signum)
        pass_on()

    def pass_on() -> None:
        # `process.is_alive()` would reap the process while `join` waits for it.
        for process in processes:
            if process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)

    previous = {s: signal.signal(s, forward) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _ctrl_c_waits():
            for process in processes:
                process.start()
        if received:
            pass_on()
        for process in processes:
            process.join()
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    codes = [process.exitcode or 0 for process in processes]
    # A negative exit code is the number of the signal that killed the process.
    statuses = [128 - code if code < 0 else code for code in codes]
    ended_by = [status - 128 for status in statuses if status - 128 in previous]
    return statuses, next(iter(received + ended_by), None)


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Block SIGINT, which a process that starts meanwhile inherits.

    A terminal sends Ctrl-C to both processes. The child must get signals from its parent only. In the parent
    a blocked signal arrives later; an ignored one would be lost, with the seconds that a start takes.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it unblocks SIGINT when it starts
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _run(job: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Run a job in its process, which ends with its parent."""
    _end_with_parent()
    job(*arguments)


def _end_with_parent() -> None:
    """Send SIGTERM to this process when its parent process dies."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _process_context() -> Any:
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context

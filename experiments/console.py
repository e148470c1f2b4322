"""Print to the terminal, and write the log of a run."""

import contextlib
import logging
import shlex
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.config.messages import plain_path
from experiments.errors import Interrupted, writing
from experiments.training.run_directory import is_worker

log = logging.getLogger("experiments")


def say(text: str) -> None:
    """Print a line and write it to the log, on rank zero only."""
    if not is_worker():
        print(text, flush=True)
    log.info(text)


def announce(text: str) -> None:
    """Print a line before imports that take seconds, if a person is watching the error stream."""
    if sys.stderr.isatty() and not is_worker():
        print(text, file=sys.stderr, flush=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave a closed pipe to the command; Rich would exit with status 1."""
        raise BrokenPipeError


def console() -> Console:
    """Return the console for tables: as wide as the terminal, or 120 columns where there is none."""
    terminal = _Console()
    return terminal if terminal.is_terminal else _Console(width=120)


def print_table(table: Table, target: Console | None = None) -> None:
    """Print a table at its own width, because Rich would cut numbers to fit a narrow terminal."""
    target = target or console()
    natural = target.measure(table, options=target.options.update(max_width=10_000)).maximum
    target.width = max(natural, target.width)
    target.print(table)


class _RunLog(logging.FileHandler):
    """Writes a log file. A line that cannot be written is lost and does not end the run."""

    lost = ""

    def handleError(self, record: logging.LogRecord) -> None:
        """Keep the reason of a failed write; other errors are faults of the call."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        self.lost = self.lost or str(getattr(error, "strerror", None) or error)

    def close(self) -> None:
        """Close the file; what it still had to write may be lost."""
        with contextlib.suppress(OSError):
            super().close()


def tensorboard_command(folder: Path) -> str:
    """Return the command that shows a folder in TensorBoard, as it can be pasted into a shell."""
    return f"tensorboard --logdir {shlex.quote(plain_path(folder))}"


@contextlib.contextmanager
def _thread_errors_logged() -> Iterator[None]:
    """Write a thread's I/O error to the log only; the next call that uses the thread raises it again."""
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not isinstance(failed.exc_value, OSError):
            before(failed)
            return
        name = failed.thread.name if failed.thread else "a thread"
        log.error("%s failed", name, exc_info=failed.exc_value)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


@contextlib.contextmanager
def recorded(run_dir: Path) -> Iterator[None]:
    """Write log records, warnings and any traceback to `run.log` while a run lasts."""
    if is_worker():
        with quiet_lightning():
            yield
        return
    path = run_dir / "run.log"
    with writing(path):
        handler = _RunLog(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)  # unlike an assignment, this clears what the logger has cached
    try:
        with quiet_lightning(), _thread_errors_logged():
            log.info("command: %s", " ".join(sys.argv))
            started = time.perf_counter()
            yield
            log.info("done in %.1f s", time.perf_counter() - started)
        if handler.lost:
            print(f"lines are missing in {path}: {handler.lost}", file=sys.stderr, flush=True)
    except (Exception, KeyboardInterrupt, Interrupted):
        log.exception("the run ended early")
        raise
    finally:
        log.setLevel(level)
        root.removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Send Lightning's messages and warnings to the log only; the run prints what a user needs."""
    names = ("lightning", "lightning.pytorch", "lightning.fabric")
    kept = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in names}
    for name in names:
        logging.getLogger(name).handlers, logging.getLogger(name).propagate = [], True
    # A logger without any handler would print warnings to stderr.
    silent = logging.NullHandler()
    logging.getLogger().addHandler(silent)
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 uses what newer PyTorch deprecates; `python -W error` must not end the run.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            yield
    finally:
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(silent)
        for name, (handlers, propagate) in kept.items():
            logging.getLogger(name).handlers, logging.getLogger(name).propagate = handlers, propagate

"""What the commands print on the terminal."""

import logging
import sys

from rich.console import Console

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


def console() -> Console:
    """Return the console for tables: as wide as the terminal, or 120 columns where there is none."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=120)

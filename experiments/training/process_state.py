"""Change loggers, warnings and determinism for the time of a run, and restore them afterwards."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from experiments.errors import Interrupted
from experiments.training.run_directory import is_worker

log = logging.getLogger("experiments")


@contextlib.contextmanager
def recorded(run_dir: Path) -> Iterator[None]:
    """Write log records, warnings and any traceback to `run.log` while a run lasts."""
    if is_worker():
        with quiet_lightning():
            yield
        return
    handler = logging.FileHandler(run_dir / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)  # unlike an assignment, this clears what the logger has cached
    try:
        with quiet_lightning():
            log.info("command: %s", " ".join(sys.argv))
            started = time.perf_counter()
            yield
            log.info("done in %.1f s", time.perf_counter() - started)
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
        yield
    finally:
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(silent)
        for name, (handlers, propagate) in kept.items():
            logging.getLogger(name).handlers, logging.getLogger(name).propagate = handlers, propagate


@contextlib.contextmanager
def global_state_kept() -> Iterator[None]:
    """Restore the global switches that a deterministic Trainer sets."""
    import torch

    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        now = torch.are_deterministic_algorithms_enabled()
        if (now, torch.is_deterministic_algorithms_warn_only_enabled()) != (deterministic, warn_only):
            # Called only when needed: it imports the compiler, which takes seconds.
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn

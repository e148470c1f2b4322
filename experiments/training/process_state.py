"""What a run changes of the process around it, and puts back: loggers, warnings, determinism."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Send Lightning's notes and warnings to the log alone; what matters of them the run says itself."""
    names = ("lightning", "lightning.pytorch", "lightning.fabric")
    kept = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in names}
    for name in names:
        logging.getLogger(name).handlers, logging.getLogger(name).propagate = [], True
    # Without a handler of its own a logger falls back on stderr for warnings.
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
    """Put back what a deterministic Trainer switches for the whole process."""
    import torch

    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        now = torch.are_deterministic_algorithms_enabled()
        if (now, torch.is_deterministic_algorithms_warn_only_enabled()) != (deterministic, warn_only):
            # Not called for nothing: it imports the compiler, which takes seconds.
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn

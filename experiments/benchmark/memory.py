"""How much memory a call needs, measured where nothing else has left its traces."""

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20


def peak_memory_mib(
    call: Callable[..., object], *args: Any, warmup_args: tuple[Any, ...] = ()
) -> float | None:
    """How much `call(*args)` raises the peak of resident memory, in MiB, in a process of its own.

    Args:
        call: a function that a fresh process can import by name.
        args: its arguments.
        warmup_args: arguments of a small call made first, so that libraries and thread pools don't count.

    Returns:
        MiB above the peak before the call, or None where the system doesn't report a peak (Windows).
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_memory_rise, (call, args, warmup_args))


def _memory_rise(
    call: Callable[..., object], args: tuple[Any, ...], warmup_args: tuple[Any, ...]
) -> float | None:
    if warmup_args:
        call(*warmup_args)
    before = _peak_bytes()
    call(*args)
    after = _peak_bytes()
    return None if before is None or after is None else (after - before) / MEBIBYTE


def _peak_bytes() -> int | None:
    status = Path("/proc/self/status")
    if status.exists():  # Linux hands ru_maxrss on through exec, so a child would start at its parent's peak
        lines = status.read_text(encoding="utf-8").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

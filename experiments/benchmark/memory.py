"""How much memory a call needs, measured where nothing else has left its traces."""

import multiprocessing
from collections.abc import Callable
from typing import Any

from experiments.training.machine import peak_resident_bytes

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
    before = peak_resident_bytes()
    call(*args)
    after = peak_resident_bytes()
    return None if before is None or after is None else (after - before) / MEBIBYTE

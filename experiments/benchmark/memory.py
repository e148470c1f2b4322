"""Measure the memory of a call in a fresh process."""

import multiprocessing
from collections.abc import Callable
from typing import Any

from experiments.training.machine import peak_resident_bytes

MEBIBYTE = 2**20


def peak_memory_mib(
    call: Callable[..., object], *args: Any, warmup_args: tuple[Any, ...] = ()
) -> float | None:
    """Return by how much `call(*args)` raises the peak of resident memory, measured in its own process.

    Args:
        call: A function that a fresh process can import by name.
        args: Arguments of the call.
        warmup_args: Arguments of a small first call, so that libraries and thread pools are not counted.

    Returns:
        MiB above the peak before the call; None if the system does not report a peak (Windows).
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

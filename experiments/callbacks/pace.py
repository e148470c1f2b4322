"""Measure the throughput of a fit and estimate the time left."""

import math
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves


class Pace:
    """Measures training and the rest (validation, checkpoints) separately.

    It has two rates: seconds of training per batch, and seconds of everything else per period. A period is
    the time from one validation to the next, usually an epoch. The first batch is not counted, because it
    includes compilation and allocation.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._warm = False
        self._running = False
        self._batches = self._samples = self._periods = 0
        self._trained = 0.0  # seconds in training, up to the last pause
        self._start = self._since = clock()

    def resume(self) -> None:
        """Start or continue the training clock."""
        self._running, self._since = True, self.clock()

    def pause(self) -> None:
        """Stop the training clock."""
        self._trained, self._running = self._train_seconds(), False

    def count(self, samples: int) -> None:
        """Count a training batch."""
        if not self._warm:
            self._warm, self._trained = True, 0.0
            self._start = self._since = self.clock()
            return
        self._batches += 1
        self._samples += samples

    def end_period(self) -> None:
        """Count a period, which ends after its validation."""
        self.pause()
        self._periods += 1

    def _train_seconds(self) -> float:
        return self._trained + (self.clock() - self._since if self._running else 0.0)

    def samples_per_second(self) -> float | None:
        """Return the throughput of training alone; `None` until two batches are done."""
        return self._samples / max(self._train_seconds(), 1e-9) if self._batches else None

    def seconds_left(self, batches: float, periods: float) -> float | None:
        """Estimate the seconds for more batches and periods; `None` if it is not known yet."""
        if not self._batches or not math.isfinite(batches):
            return None
        training = self._train_seconds()
        other = (self.clock() - self._start - training) / self._periods if self._periods else 0.0
        return batches * training / self._batches + periods * other


def batch_size(batch: Any) -> int:
    """Return the length of the first tensor in a batch of nested containers; 0 if it has none."""
    return next((len(leaf) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim), 0)

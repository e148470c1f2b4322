"""How fast a fit is and how long it will take."""

import math
import time
from collections.abc import Callable


class Pace:
    """Throughput and time left of a fit whose training is interrupted by validations.

    Two rates are kept apart: seconds per training batch, and seconds per period from one validation to the
    next (an epoch, as a rule) that go into anything else. The first batch isn't counted, since it pays for
    what happens once (compilation, allocation).

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._warm = False
        self._running = False
        self._batches = self._samples = self._periods = 0
        self._trained = 0.0  # seconds in training, up to the last pause
        self._start = self._since = clock()

    def resume(self) -> None:
        """Training goes on."""
        self._running, self._since = True, self.clock()

    def pause(self) -> None:
        """Something else than training begins."""
        self._trained, self._running = self._train_seconds(), False

    def count(self, samples: int) -> None:
        """A training batch is done."""
        if not self._warm:
            self._warm, self._trained = True, 0.0
            self._start = self._since = self.clock()
            return
        self._batches += 1
        self._samples += samples

    def end_period(self) -> None:
        """A period is over, its validation included."""
        self.pause()
        self._periods += 1

    def _train_seconds(self) -> float:
        return self._trained + (self.clock() - self._since if self._running else 0.0)

    def samples_per_second(self) -> float | None:
        """Of training alone; `None` until two batches are done."""
        return self._samples / max(self._train_seconds(), 1e-9) if self._batches else None

    def seconds_left(self, batches: float, periods: float) -> float | None:
        """Until so many more batches, and the validations of so many more periods, are done."""
        if not self._batches or not math.isfinite(batches):
            return None
        training = self._train_seconds()
        other = (self.clock() - self._start - training) / self._periods if self._periods else 0.0
        return batches * training / self._batches + periods * other

"""Let all ranks act at the same step on an event that one of them has seen, such as a signal."""

import time
from collections.abc import Callable

import lightning as L
import torch

MOST_CALLS = 100
"""The most calls between two exchanges, however short the steps are."""


class Agreement:
    """Tells all ranks at the same step that one of them has seen an event.

    An exchange in each step would make each step wait for the slowest rank and, on a GPU, for the device. So
    the ranks exchange about once a period. In each exchange they also agree on the number of calls until the
    next one, which keeps them together. A single process knows at once.

    Args:
        period: Seconds between two exchanges.
        clock: Returns seconds.
    """

    def __init__(self, period: float = 1.0, clock: Callable[[], float] = time.perf_counter) -> None:
        self.period = period
        self.clock = clock
        self._agreed = False
        self._calls = self._wait = 0
        self._asked: float | None = None

    def any_rank(self, trainer: L.Trainer, seen: bool, *, now: bool = False) -> bool:
        """Return whether any rank has seen the event, as of the last exchange. Once true, it stays true.

        All ranks must make the same calls.

        Args:
            trainer: The Trainer of the ranks.
            seen: Whether this rank has seen the event.
            now: Exchange in this call, even if the period is not over.
        """
        if trainer.world_size == 1:
            return seen
        self._calls += 1
        if self._agreed or (self._calls < self._wait and not now):
            return self._agreed
        asked, self._asked = self._asked, self.clock()
        each = 1.0 if asked is None else (self._asked - asked) / self._calls
        calls = self.period / max(each, 1e-9)
        # The maximum of the negative waits is the shortest wait, so the slowest rank decides.
        answer = torch.tensor([float(seen), -min(calls, MOST_CALLS)], device=trainer.strategy.root_device)
        answer = trainer.strategy.reduce(answer, reduce_op="max")
        self._agreed, self._calls, self._wait = bool(answer[0]), 0, max(1, int(-answer[1]))
        return self._agreed

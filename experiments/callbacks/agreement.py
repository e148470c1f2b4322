"""What any rank has seen and all must act on at the same step, such as a signal or the end of the time."""

import time
from collections.abc import Callable

import lightning as L
import torch

MOST_CALLS = 100
"""Steps that pass without asking at most, however short they are."""


class Agreement:
    """Lets all ranks know at the same step that one of them has seen something.

    Asking them in each step would make each step wait for the slowest rank and, on a GPU, for the device. So
    they talk about once a period: each time they also agree on how many calls make up the next one, which
    keeps them together however long their own steps take. A single process sees at once what it sees.

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
        """Whether any rank has seen it, as far as all know; true ever after.

        Args:
            trainer: Whose ranks.
            seen: Whether this one has.
            now: Ask all ranks whenever the last time was. Like each call, one that all ranks make.
        """
        if trainer.world_size == 1:
            return seen
        self._calls += 1
        if self._agreed or (self._calls < self._wait and not now):
            return self._agreed
        asked, self._asked = self._asked, self.clock()
        each = 1.0 if asked is None else (self._asked - asked) / self._calls
        calls = self.period / max(each, 1e-9)
        # The greatest of the negative waits is the shortest wait: the slowest rank decides.
        answer = torch.tensor([float(seen), -min(calls, MOST_CALLS)], device=trainer.strategy.root_device)
        answer = trainer.strategy.reduce(answer, reduce_op="max")
        self._agreed, self._calls, self._wait = bool(answer[0]), 0, max(1, int(-answer[1]))
        return self._agreed

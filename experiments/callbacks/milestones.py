"""Decide in optimizer steps and minutes when a fit validates and ends, at the same step on all ranks."""

import math
import time
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from experiments.training import lightning_adapter

MOST_CALLS = 100
"""Largest number of calls between two exchanges, even if the steps are short."""


class Milestones(Callback):
    """Validates every `check_val_every_n_steps` optimizer steps, and ends the fit by steps or time.

    Lightning counts the interval in batches. With accumulated gradients, the last step of an epoch may have
    fewer batches, so batches and steps drift apart. The last state of a fit is always validated.

    Args:
        check_val_every_n_steps: Optimizer steps between two validations; `None` validates by epochs.
        max_minutes: The fit ends after the first step that ends later than this.
        clock: Returns the seconds of the fit so far, including those before a resume.
    """

    def __init__(
        self,
        *,
        check_val_every_n_steps: int | None = None,
        max_minutes: float | None = None,
        clock: Callable[[], float],
    ) -> None:
        self.check_val_every_n_steps = check_val_every_n_steps
        self.max_seconds = math.inf if max_minutes is None else 60 * max_minutes
        self.clock = clock
        self.time_over = False
        """Whether the fit has ended by its time; part of a checkpoint."""
        self._time_over = Agreement()

    def state_dict(self) -> dict[str, Any]:
        """Return whether the fit has ended by its time."""
        return {"time_over": self.time_over}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore whether the fit has ended by its time; a longer `max_minutes` continues it."""
        self.time_over = state_dict["time_over"] and self.seconds_left() <= 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End a resumed fit that had ended."""
        if self.time_over:
            lightning_adapter.train_no_more(trainer)

    def seconds_left(self) -> float:
        """Return the seconds until `max_minutes` are over; infinite without a limit."""
        return self.max_seconds - self.clock()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Switch Lightning's own interval off."""
        if self.check_val_every_n_steps is not None:
            lightning_adapter.validate_after_this_batch(trainer, False)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Decide after each step whether Lightning validates or stops."""
        stepped = trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self.check_val_every_n_steps is not None:
            is_last = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
            due = stepped and (is_last or trainer.global_step % self.check_val_every_n_steps == 0)
            lightning_adapter.validate_after_this_batch(trainer, due)
        if not stepped:
            return
        if trainer.global_step == trainer.max_steps:
            lightning_adapter.stop_after_this_batch(trainer)
        if math.isfinite(self.max_seconds) and self._time_over.any_rank(trainer, self.seconds_left() <= 0):
            self.time_over = True
            lightning_adapter.stop_after_this_batch(trainer)


class Agreement:
    """Tells all ranks at the same step that one of them has seen an event.

    An exchange in each step would make each step wait for the slowest rank and, on a GPU, for the device. So
    the ranks exchange about once a period. In each exchange they also agree on the number of calls until the
    next one, which keeps them together. A single process needs no exchange.

    Args:
        period: Seconds between two exchanges.
    """

    def __init__(self, period: float = 1.0, clock: Callable[[], float] = time.perf_counter) -> None:
        self.period = period
        self.clock = clock
        self._agreed = False
        self._calls = self._wait = 0
        self._asked: float | None = None

    def any_rank(self, trainer: L.Trainer, seen: bool, *, now: bool = False) -> bool:
        """Return whether any rank has seen the event, as of the last exchange. Once true, it stays true.

        All ranks must make the same calls. With `now`, they exchange before the period is over.
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


def parts_over(trainer: L.Trainer, pl_module: Any, parts: int) -> int:
    """Return how many of `parts` equal parts of a fit are over, by steps or by time."""
    total = pl_module.total_steps() if hasattr(pl_module, "total_steps") else trainer.max_steps
    by_steps = parts * trainer.global_step // max(1, total)
    milestones = next((c for c in trainer.callbacks if isinstance(c, Milestones)), None)  # type: ignore[attr-defined]
    if milestones is None or math.isinf(milestones.max_seconds):
        return by_steps
    over = 1 - milestones.seconds_left() / milestones.max_seconds
    return max(by_steps, int(parts * min(1.0, over)))

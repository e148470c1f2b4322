"""When a fit validates and when it is over, counted in optimizer steps and minutes."""

import math
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from experiments.callbacks.agreement import Agreement
from experiments.training import lightning_adapter


class Milestones(Callback):
    """Validates every so many optimizer steps, and ends the fit with its last step or when its time is over.

    Lightning's own interval counts batches, which with accumulated gradients drift off the steps where an
    epoch's last step has fewer of them. However a fit ends, its last state is validated.

    Args:
        check_val_every_n_steps: Optimizer steps between two validations; `None` leaves it to the epochs.
        max_minutes: End the fit after the first step that ends later than this.
        clock: Seconds of the fit so far, those before a resume included.
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
        self._time_over = Agreement()

    def seconds_left(self) -> float:
        """Until the fit's time is over; infinite where it has none."""
        return self.max_seconds - self.clock()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the interval over."""
        if self.check_val_every_n_steps is not None:
            lightning_adapter.validate_after_this_batch(trainer, False)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After a step, say whether Lightning is to validate or to stop."""
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
            lightning_adapter.stop_after_this_batch(trainer)


def parts_over(trainer: L.Trainer, pl_module: Any, parts: int) -> int:
    """How many of a fit's equal parts are over, by steps or by its time; a resumed one counts the same."""
    total = pl_module.total_steps() if hasattr(pl_module, "total_steps") else trainer.max_steps
    by_steps = parts * trainer.global_step // max(1, total)
    milestones = next((c for c in trainer.callbacks if isinstance(c, Milestones)), None)  # type: ignore[attr-defined]
    if milestones is None or math.isinf(milestones.max_seconds):
        return by_steps
    over = 1 - milestones.seconds_left() / milestones.max_seconds
    return max(by_steps, int(parts * min(1.0, over)))

"""Average the gradients of accumulated batches, also in the last, smaller group of an epoch."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor


class GroupAverage(Callback):
    """Divides the gradients of an epoch's last group of batches by the size of that group.

    Lightning divides every loss by n = `accumulate_grad_batches`. It also steps after the last batch of an
    epoch, when a group may have k < n batches. The gradient of each of them is multiplied by n / k here, so
    that a step uses the mean over its batches. Batches have equal weights; the loss of a batch is the mean
    over its examples or tokens. Full groups are left as they are.
    """

    def __init__(self) -> None:
        self._factor = 1.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Find the size of the batch's group."""
        group, batches = trainer.accumulate_grad_batches, trainer.num_training_batches
        size = min(group, batches - batch_idx // group * group)
        self._factor = group / size

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Scale the gradient where it starts, in one place for all parameters."""
        if self._factor != 1:
            factor = self._factor
            loss.register_hook(lambda gradient: gradient * factor)

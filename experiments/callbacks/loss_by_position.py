"""Log the loss of a language model by position: does it get worse beyond the trained length?"""

import math
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from experiments.training.curve_log import CurveLog
from lit_modules.metrics.token_metrics import IGNORED

POINTS = 32
"""Largest number of points of the curve."""


class LossByPosition(Callback):
    """Logs `test/loss_by_position`, and the losses inside and beyond the trained length.

    The curve has at most 32 points. Each point is the mean loss over a few neighbouring positions. In
    `metrics.csv`, the column `step` holds the last of these positions, counted from 1.

    If training windows are shorter than evaluation windows, `val/loss_inside` is the mean loss at positions
    up to the length of a training window, and `val/loss_beyond` at later positions. The test logs the same.
    """

    def __init__(self) -> None:
        self._sums = torch.zeros(2, 0)  # losses and targets at each position, (2, T)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start new sums."""
        self._sums = torch.zeros(2, pl_module.info.context_length, dtype=torch.float64)

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the losses of a batch."""
        counted = outputs["targets"] != IGNORED  # (B, T)
        losses = torch.zeros_like(counted, dtype=torch.float32)
        losses[counted] = outputs["losses"].float()
        found = torch.stack([losses.sum(0), counted.sum(0)]).cpu()
        self._sums[:, : found.shape[1]] += found

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the losses inside and beyond the trained length."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the two losses and the curve."""
        self._finish(trainer, pl_module, "test")
        positions = self._sums.shape[1]
        each = math.ceil(positions / POINTS)
        for logger in trainer.loggers:
            if isinstance(logger, CurveLog):  # TensorBoard's horizontal axis is the step
                for first in range(0, positions, each):
                    losses, targets = self._sums[:, first : first + each].sum(1).tolist()
                    point = {"test/loss_by_position": losses / targets if targets else math.nan}
                    last = min(first + each, positions)
                    logger.log_metrics({**point, "epoch": trainer.current_epoch}, step=last)

    def _finish(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Add up the sums of all processes, and log the two losses."""
        sums = self._sums.float().to(pl_module.device)
        self._sums = trainer.strategy.reduce(sums, reduce_op="sum").cpu()
        length = pl_module.info.train_length
        if length < self._sums.shape[1]:
            parts = {"inside": self._sums[:, :length], "beyond": self._sums[:, length:]}
            for name, part in parts.items():
                losses, targets = part.sum(1)
                pl_module.log(f"{stage}/loss_{name}", losses / targets, sync_dist=True)

"""Log two curves of a classifier on the test split: recall by class, and accuracy by confidence."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from experiments.training.curve_log import CurveLog

BINS = 10
"""Bins of the confidence, of equal width."""


class ClassCurves(Callback):
    """Logs `test/recall_by_class` and `test/accuracy_by_confidence`, the reliability diagram.

    The confidence is the probability of the predicted class; a classifier is calibrated if its accuracy
    equals it (Guo et al., "On Calibration of Modern Neural Networks", 2017, section 2). In `metrics.csv`, the
    column `step` holds the index of the class, or the middle of a bin in percent. A class or bin without
    samples has no point.
    """

    def __init__(self) -> None:
        self._counts: list[Tensor] = []  # samples and hits by class (2, K), and by bin (2, BINS)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start new counts."""
        classes = len(pl_module.info.class_names)
        self._counts = [torch.zeros(2, size, device=pl_module.device) for size in (classes, BINS)]

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        targets = outputs["targets"]
        confidences, predicted = outputs["logits"].softmax(-1).max(-1)
        places = targets, (confidences * BINS).long().clamp(0, BINS - 1)  # NaN is a large negative number
        for counts, place in zip(self._counts, places, strict=True):
            counts[0] += place.bincount(minlength=counts.shape[1])
            counts[1] += place[predicted == targets].bincount(minlength=counts.shape[1])

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add up the counts of all processes, and log the curves."""
        # TensorBoard is left out: its horizontal axis is always the training step.
        logs = [logger for logger in trainer.loggers if isinstance(logger, CurveLog)]
        classes, middles = range(self._counts[0].shape[1]), range(50 // BINS, 100, 100 // BINS)
        names = {"test/recall_by_class": classes, "test/accuracy_by_confidence": middles}
        for (name, steps), counts in zip(names.items(), self._counts, strict=True):
            samples, hits = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
            for step, total, right in zip(steps, samples, hits, strict=True):
                for log in logs if total else ():
                    log.log_metrics({name: right / total, "epoch": trainer.current_epoch}, step=step)

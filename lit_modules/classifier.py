"""Classification: any network from inputs to logits of K classes, cross-entropy, and how well it does."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from datamodules.info import ImageInfo, LabelledTextInfo
from lit_modules.base import LitModule

Batch = tuple[Tensor, Tensor]


class Classifier(LitModule):
    """Tells inputs (B, …) apart by logits (B, K), trained by cross-entropy on smoothed targets.

    A subclass makes `network`, whose `forward` gives logits and whose `features` gives the
    penultimate activations (B, F), and may measure more by overriding `build_metrics`.

    Args:
        config: A `ClassifierConfig`.
        info: The data's description, with the K `class_names`.
        optimizer: See `LitModule`.
        schedule: See `LitModule`.
    """

    dashboard = "classification"

    info: ImageInfo | LabelledTextInfo
    network: nn.Module

    def __init__(self, config: Any, info: Any, *, optimizer: Any = None, schedule: Any = None) -> None:
        super().__init__(config, info, optimizer=optimizer, schedule=schedule)
        # A NaN loss stays one in the mean: leaving it out would make a broken model look better.
        self.val_loss, self.test_loss = (MeanMetric(nan_strategy="disable") for _ in range(2))
        self.val_metrics, self.test_metrics = (nn.ModuleDict(self.build_metrics()) for _ in range(2))

    def build_metrics(self) -> dict[str, Metric]:
        """Make what is measured beside the loss of logits and targets, by the names it is logged by."""
        classes = len(self.info.class_names)
        return {"accuracy": MulticlassAccuracy(classes, average="micro", validate_args=False)}

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, K) of inputs (B, …)."""
        return self.network(inputs)

    def features(self, inputs: Tensor) -> Tensor:
        """Penultimate activations (B, F) of inputs (B, …)."""
        return self.network.features(inputs)  # type: ignore[operator]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Cross-entropy against the smoothed targets; a callback records the curve."""
        inputs, targets = batch
        logits = _at_least_float32(self.network(inputs))
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        return {"loss": loss, "logits": logits.detach(), "targets": targets}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """What is measured of one batch, added to the epoch's."""
        return self._evaluate(batch, "val", self.val_loss, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """What is measured of one batch, added to the epoch's."""
        return self._evaluate(batch, "test", self.test_loss, self.test_metrics)

    def _evaluate(
        self, batch: Batch, stage: str, mean_loss: MeanMetric, metrics: nn.ModuleDict
    ) -> dict[str, Tensor]:
        inputs, targets = batch
        logits = _at_least_float32(self.network(inputs))
        losses = F.cross_entropy(logits, targets, reduction="none")  # (B,)
        mean_loss.update(losses)
        self.log(f"{stage}/loss", mean_loss, on_step=False, on_epoch=True)
        for name, metric in metrics.items():
            assert isinstance(metric, Metric)
            metric.update(logits, targets)
            self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True)
        return {"loss": losses.mean(), "logits": logits, "targets": targets}


def _at_least_float32(logits: Tensor) -> Tensor:
    """Lift logits of half precision, whose log-softmax would be too coarse."""
    return logits.float() if logits.dtype.itemsize < 4 else logits

"""The base of all classifiers: a network that returns logits of K classes, cross-entropy and accuracy."""

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from datamodules.info import ImageInfo, LabelledTextInfo
from lit_modules.base import LitModule, Stage
from lit_modules.functional.precision import widen

Batch = tuple[Tensor, Tensor]


class Classifier(LitModule):
    """A classifier of inputs (B, …) by logits (B, K), trained by cross-entropy with label smoothing.

    A subclass builds `network`. Its `forward` returns logits and its `features` the activations (B, F)
    before the last layer. More metrics are added by overriding `build_metrics`.
    """

    dashboard = "classification"

    info: ImageInfo | LabelledTextInfo

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Add the accuracy."""
        accuracy = MulticlassAccuracy(len(self.info.class_names), average="micro", validate_args=False)
        return {**super().build_metrics(stage), "accuracy": accuracy}

    def features(self, inputs: Tensor) -> Tensor:
        """Return the activations (B, F) before the last layer for inputs (B, …)."""
        return self.network.features(inputs)  # type: ignore[operator]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the cross-entropy with smoothed targets."""
        inputs, targets = batch
        logits = widen(self.network(inputs))
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        return {"loss": loss, "logits": logits.detach(), "targets": targets}

    def evaluation_step(self, batch: Batch, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        """Return losses (B,) without label smoothing, logits (B, K) and targets (B,)."""
        inputs, targets = batch
        logits = widen(self.network(inputs))
        losses = F.cross_entropy(logits, targets, reduction="none")
        return {"losses": losses, "logits": logits, "targets": targets}

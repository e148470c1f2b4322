"""The base of all classifiers: a network that returns logits of K classes, an objective and accuracy."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from datamodules.info import ImageInfo, LabelledTableInfo, LabelledTextInfo
from lit_modules.base import LitModule, Stage
from lit_modules.functional.precision import widen
from lit_modules.objective import Distillation

Batch = tuple[Tensor, Tensor]


class Classifier(LitModule):
    """A classifier of inputs (B, …) by logits (B, K), trained by cross-entropy or another objective.

    A subclass builds `network` with `num_outputs` outputs. Its `forward` returns logits and its `features`
    the activations (B, F) before the last layer. A network without a method `features` trains too, but the
    dashboard then has no embedding. More metrics are added by overriding `build_metrics`.

    Evaluation logs the cross-entropy, for every objective, so that losses are comparable.
    """

    dashboard: str | None = "classification"

    info: ImageInfo | LabelledTextInfo | LabelledTableInfo

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Add the accuracy."""
        accuracy = MulticlassAccuracy(len(self.info.class_names), average="micro", validate_args=False)
        return {**super().build_metrics(stage), "accuracy": accuracy}

    @property
    def num_outputs(self) -> int:
        """Number of outputs of the network: K, or 1 for two classes and a binary objective."""
        num_classes = len(self.info.class_names)
        count = getattr(self.objective, "num_outputs", None)
        return num_classes if count is None else count(num_classes)

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        """Compute the logits (B, K) of inputs (B, …)."""
        return class_logits(self.network(inputs))

    @property
    def has_features(self) -> bool:
        """Whether the network or a subclass has a method `features`."""
        return type(self).features is not Classifier.features or hasattr(self.network, "features")

    def features(self, inputs: Tensor) -> Tensor:
        """Return the activations (B, F) before the last layer for inputs (B, …)."""
        return self.network.features(inputs)  # type: ignore[operator]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the objective of one batch."""
        inputs, targets = batch
        outputs = widen(self.network(inputs))
        logits = class_logits(outputs.detach())
        if isinstance(self.objective, Distillation):
            loss = self.objective(outputs, targets, inputs=inputs)
        else:
            loss = self.objective(outputs, targets)
        return {"loss": loss, "logits": logits, "targets": targets}

    def evaluation_step(self, batch: Batch, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        """Return cross-entropies (B,) without label smoothing, logits (B, K) and targets (B,)."""
        inputs, targets = batch
        logits = widen(self(inputs))
        losses = F.cross_entropy(logits, targets, reduction="none")
        return {"losses": losses, "logits": logits, "targets": targets}


def class_logits(outputs: Tensor) -> Tensor:
    """Return logits (B, K); a single output z becomes (0, z), because σ(z) is the softmax of these two."""
    if outputs.shape[-1] != 1:
        return outputs
    return torch.cat([torch.zeros_like(outputs), outputs], dim=-1)

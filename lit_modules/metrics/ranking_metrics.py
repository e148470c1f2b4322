"""Ranking metrics of a classifier over all samples of an epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_modules.functional.ranking import one_vs_rest_auc


class OneVsRestAUC(Metric):
    """The mean over classes of the area under the ROC curve of one class against all others.

    Updated with logits (B, K) and targets (B,). `one_vs_rest_auc` computes it from all samples and leaves out
    classes with no sample or with all samples. The result is NaN if no class is left, or if a logit is NaN or
    +∞.
    """

    logits: list[Tensor]
    targets: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("logits", default=[], dist_reduce_fx="cat")
        self.add_state("targets", default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Store a batch."""
        self.logits.append(logits.detach())
        self.targets.append(targets)

    def compute(self) -> Tensor:
        """Return a scalar in [0, 1], or NaN."""
        logits, targets = dim_zero_cat(self.logits), dim_zero_cat(self.targets)
        probabilities = logits.double().softmax(1)
        if bool(probabilities.isnan().any()):
            return logits.new_tensor(torch.nan)
        return logits.new_tensor(one_vs_rest_auc(probabilities, targets))

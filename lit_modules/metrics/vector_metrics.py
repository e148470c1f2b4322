"""Metrics of predicted vectors over all rows of an epoch, independent of the batch size."""

import torch
from torch import Tensor
from torchmetrics import Metric, R2Score


class VectorR2(R2Score):
    """R² = 1 − Σ‖t − y‖² / Σ‖t − t̄‖², the share of the targets' variance that the predictions explain.

    The entries of the vectors are weighted by their variance. A perfect prediction scores 1, the mean target
    scores 0. A single row has no variance; its score is NaN.

    Args:
        scale: Typical size of an entry. Vectors are divided by it, because `R2Score` treats an entry as
            constant if its sum of squares is below 1e-4.
    """

    def __init__(self, scale: float) -> None:
        super().__init__(multioutput="variance_weighted")
        self.scale = scale

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of predictions and targets, (B, D) each."""
        super().update(preds / self.scale, target / self.scale)

    def compute(self) -> Tensor:
        """Return R², a scalar."""
        return super().compute() if self.total > 1 else torch.full_like(self.residual[0], torch.nan)


class MeanCosine(Metric):
    """Mean cosine between predicted and true vectors.

    Zero targets have no direction and are left out. A zero prediction has a cosine of 0. The mean is NaN if
    all targets are zero.
    """

    full_state_update = False
    higher_is_better = True

    count: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch of predictions and targets, (B, D) each."""
        cosines = torch.nn.functional.cosine_similarity(predictions, targets)  # (B,)
        directed = targets.square().sum(-1) > 0
        self.count += directed.sum()
        self.total += cosines.where(directed, 0.0).sum()

    def compute(self) -> Tensor:
        """Return the mean, a scalar in [−1, 1]."""
        return self.total / self.count

"""How well vectors are predicted, over all rows of an epoch: each counts alike, whatever batch it came in."""

import torch
from torch import Tensor
from torchmetrics import Metric


class VectorR2(Metric):
    """R² = 1 − Σ‖t − y‖² / Σ‖t − t̄‖²: what the predictions explain that the mean target does not.

    All entries of the vectors count by their variance (scikit-learn's `variance_weighted`), so that a
    coordinate that hardly changes can't decide. 1 is perfect, 0 as good as the mean, which is also the answer
    where no target differs from it.

    Args:
        width: D, entries of a vector.
    """

    full_state_update = False
    higher_is_better = True

    count: Tensor
    total: Tensor
    squares: Tensor
    residual: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(width), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("residual", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch: (B, D) each."""
        self.count += len(targets)
        self.total += targets.sum(0)
        self.squares += targets.square().sum()
        self.residual += (targets - predictions).square().sum()

    def compute(self) -> Tensor:
        """A scalar ≤ 1."""
        spread = self.squares - self.total.square().sum() / self.count
        return torch.where(spread > 0, 1 - self.residual / spread, 0.0)


class MeanCosine(Metric):
    """Mean cosine between predicted and true vectors, over the targets that have a direction.

    A target of zero has none and is left out; a prediction of zero has a cosine of 0. NaN where no target has
    a direction.
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
        """Add a batch: (B, D) each."""
        cosines = torch.nn.functional.cosine_similarity(predictions, targets)  # (B,)
        directed = targets.square().sum(-1) > 0
        self.count += directed.sum()
        self.total += cosines.where(directed, 0.0).sum()

    def compute(self) -> Tensor:
        """A scalar in [−1, 1]."""
        return self.total / self.count

"""Metrics of generated answers."""

import torch
from torch import Tensor
from torchmetrics import Metric


class ExactMatch(Metric):
    """The share of problems with a correct answer, over the usual or over the longer problems.

    Args:
        longer: Whether the longer problems count, instead of the usual ones.
        sampled: Whether one correct answer among all sampled ones is enough (pass@k: Chen et al. 2021,
            "Evaluating large language models trained on code"), instead of the greedy answer.
    """

    full_state_update = False
    higher_is_better = True

    correct: Tensor
    total: Tensor

    def __init__(self, *, longer: bool = False, sampled: bool = False) -> None:
        super().__init__()
        self.longer = longer
        self.sampled = sampled
        self.add_state("correct", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, correct: Tensor, longer: Tensor) -> None:
        """Add a batch.

        Args:
            correct: Boolean (B, 1 + k): whether the greedy answer and each of k sampled ones is correct.
            longer: Boolean (B,): whether a problem is longer than those of the training.
        """
        own = correct[longer == self.longer]
        self.correct += (own[:, 1:].any(1) if self.sampled else own[:, 0]).sum()
        self.total += len(own)

    def compute(self) -> Tensor:
        """Return a scalar in [0, 1]; NaN without any problem."""
        return self.correct / self.total

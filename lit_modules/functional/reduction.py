"""From one loss per element to the number that is minimised."""

from typing import Literal, get_args

from torch import Tensor

Reduction = Literal["none", "sum", "mean"]


def reduce(losses: Tensor, reduction: Reduction, *, weights: Tensor | None = None) -> Tensor:
    """Reduces `losses` (...) to a scalar, or leaves them as they are.

    The mean over nothing (an empty batch, every target ignored, all weights zero) is 0 with zero gradients,
    where PyTorch's is NaN: such a batch has nothing to say, and one padded micro-batch mustn't poison a run.

    Args:
        losses: (...), with `weights` already multiplied in.
        reduction: `"none"`, `"sum"`, or `"mean"`.
        weights: (...), the elements' weights; the mean is then Σ losses / Σ weights, as in PyTorch.

    Raises:
        ValueError: an unknown `reduction`.
    """
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        if weights is None:
            return losses.sum() / max(losses.numel(), 1)
        total = weights.sum()
        return losses.sum() / total.masked_fill(total == 0, 1)
    raise ValueError(f"reduction must be one of {', '.join(get_args(Reduction))}; got {reduction!r}")

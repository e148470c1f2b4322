"""Reduce one loss per element to one number."""

from typing import Literal, get_args

from torch import Tensor

Reduction = Literal["none", "sum", "mean"]


def reduce(losses: Tensor, reduction: Reduction, *, weights: Tensor | None = None) -> Tensor:
    """Reduce `losses` (...) to a scalar, or return them unchanged.

    The mean over nothing (an empty batch, all targets ignored, all weights zero) is 0 with zero gradients.
    PyTorch returns NaN, which would destroy a run because of one micro-batch of padding.

    Args:
        losses: (...), already multiplied by `weights`.
        reduction: `"none"`, `"sum"` or `"mean"`.
        weights: (...), one weight per element; the mean is then Σ losses / Σ weights, as in PyTorch.

    Raises:
        ValueError: `reduction` is unknown.
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

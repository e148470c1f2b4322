"""Losses for real-valued targets."""

import torch
from torch import Tensor

from lit_modules.functional.precision import result_dtype, widen
from lit_modules.functional.reduction import Reduction, reduce


def mse(predictions: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Compute the squared error (y − t)².

    Args:
        predictions: y (...).
        targets: t (...).
        reduction: `"none"`, `"sum"` or `"mean"`; the mean over nothing is 0.

    Returns:
        A scalar, or (...) without reduction, in the type of `predictions` (fp32 for half precision in
            autocast).

    Raises:
        ValueError: The shapes differ; to broadcast (N,) against (N, 1) would compare every pair.
    """
    if predictions.shape != targets.shape:
        raise ValueError(
            f"predictions and targets must have the same shape; "
            f"got {tuple(predictions.shape)} and {tuple(targets.shape)}"
        )
    squares = (widen(predictions) - targets).square()
    return reduce(squares, reduction).to(result_dtype(predictions))


def mse_l1_cosine(predictions: Tensor, targets: Tensor) -> Tensor:
    """Compute mse + mean |y − t| − mean cos(y, t), a loss of both the length and the direction of vectors.

    A zero vector has no direction: its cosine counts as 0 and has no gradient.

    Args:
        predictions: y (..., D).
        targets: t (..., D).

    Returns:
        A scalar, in the type of `predictions` (fp32 for half precision in autocast).

    Raises:
        ValueError: The shapes differ.
    """
    y, t = widen(predictions), widen(targets)
    squared = mse(y, t)
    norms = torch.linalg.vector_norm(y, dim=-1) * torch.linalg.vector_norm(t, dim=-1)  # (...)
    directed = norms > 0
    cosines = ((y * t).sum(-1) / norms.where(directed, 1.0)).where(directed, 0.0)
    rest = reduce((y - t).abs(), "mean") - reduce(cosines, "mean")
    return (squared + rest).to(result_dtype(predictions))

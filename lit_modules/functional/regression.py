"""Losses of real-valued targets."""

import torch
from torch import Tensor

from lit_modules.functional.precision import result_dtype, widen
from lit_modules.functional.reduction import Reduction, reduce


def mse(predictions: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """(y − t)², the squared error.

    Args:
        predictions: (...).
        targets: (...).
        reduction: `"none"`, `"sum"` or `"mean"`; a mean over nothing is 0.

    Returns:
        A scalar, or (...) without reduction, in the type of `predictions` (fp32 for half precision in
            autocast).

    Raises:
        ValueError: the shapes differ; broadcasting (N,) against (N, 1) would compare every pair.
    """
    if predictions.shape != targets.shape:
        raise ValueError(
            f"predictions have shape {tuple(predictions.shape)} and targets {tuple(targets.shape)}; "
            f"they must be alike"
        )
    squares = (widen(predictions) - targets).square()
    return reduce(squares, reduction).to(result_dtype(predictions))


def mse_l1_cosine(predictions: Tensor, targets: Tensor) -> Tensor:
    """mse + mean |y − t| − mean cos(y, t): size and direction of vectors at once.

    A vector of zero has no direction: its cosine counts as 0, and gives no gradient.

    Args:
        predictions: (..., D).
        targets: (..., D).

    Returns:
        A scalar, in the type of `predictions` (fp32 for half precision in autocast).

    Raises:
        ValueError: the shapes differ.
    """
    y, t = widen(predictions), widen(targets)
    squared = mse(y, t)
    norms = torch.linalg.vector_norm(y, dim=-1) * torch.linalg.vector_norm(t, dim=-1)  # (...)
    directed = norms > 0
    cosines = ((y * t).sum(-1) / norms.where(directed, 1.0)).where(directed, 0.0)
    rest = reduce((y - t).abs(), "mean") - reduce(cosines, "mean")
    return (squared + rest).to(result_dtype(predictions))

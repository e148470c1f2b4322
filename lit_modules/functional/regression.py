"""Losses of real-valued targets."""

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

"""The focal loss: cross-entropy with less weight on samples that are already classified well.

    FL = −α_t (1 − p_t)^γ log p_t

p_t is the probability of the true class. With γ = 0 and no α, FL is the cross-entropy. The mean over a batch
ignores α: it divides by the number of losses.

Source: Lin et al., "Focal Loss for Dense Object Detection" (2017), eq. 5.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lit_modules.functional import backward
from lit_modules.functional.precision import result_dtype, widen
from lit_modules.functional.reduction import Reduction, reduce

Alpha = float | Tensor | None


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    alpha: Alpha = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Compute the focal loss of exclusive classes, p = softmax(logits).

    Args:
        logits: (..., C).
        targets: (...), class indices in [0, C).
        gamma: γ ≥ 0; the larger, the faster the loss falls as p_t grows.
        alpha: α: a factor per class (C,), one factor for all classes, or None.
        reduction: `"none"`, `"sum"` or `"mean"`.

    Returns:
        A scalar, or (...) without reduction, in the type of `logits` (fp32 for half precision in autocast).

    Raises:
        ValueError: Shapes don't match, `alpha` lacks one entry per class, or `gamma` is negative.
    """
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets must have shape {tuple(logits.shape[:-1])}; got {tuple(targets.shape)}")
    factor = _per_class(alpha, logits)
    if isinstance(factor, Tensor):
        factor = factor[targets]
    cross_entropies = backward.softmax_cross_entropy(logits, targets)
    losses = _focus(_Miss.apply(cross_entropies), gamma) * cross_entropies
    return reduce(losses if factor is None else losses * factor, reduction).to(result_dtype(logits))


def sigmoid_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    alpha: Alpha = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Compute the focal loss of independent labels, p = sigmoid(logits).

    Args:
        logits: (...), or (..., C) with one `alpha` per class.
        targets: The shape of `logits`; 0, 1 or a probability.
        gamma: γ ≥ 0; the larger, the faster the loss falls as p_t grows.
        alpha: α, the factor of positives: one per class (C,), one for all, or None. Negatives have 1 − α.
        reduction: `"none"`, `"sum"` or `"mean"`.

    Returns:
        A scalar, or (...) without reduction, in the type of `logits` (fp32 for half precision in autocast).

    Raises:
        ValueError: Shapes don't match, `alpha` lacks one entry per class, or `gamma` is negative.
    """
    if targets.shape != logits.shape:
        raise ValueError(f"logits have shape {tuple(logits.shape)} and targets {tuple(targets.shape)}")
    factor = _per_class(alpha, logits)
    x = widen(logits)
    t = targets.to(x.dtype)
    misses = (1 - t) * backward.sigmoid(x) + t * backward.sigmoid(-x)  # 1 − p_t; both terms are positive
    losses = _focus(misses, gamma) * backward.binary_cross_entropy(x, t)
    if factor is not None:
        losses = losses * (factor * t + (1 - factor) * (1 - t))
    return reduce(losses, reduction).to(result_dtype(logits))


class _Miss(Function):
    """1 − p_t from ℓ = −log p_t; its slope is p_t. Neither is a difference from 1, so both stay exact."""

    generate_vmap_rule = True

    @staticmethod
    def forward(cross_entropies: Tensor) -> Tensor:
        return torch.expm1(-cross_entropies).neg_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (cross_entropies,) = ctx.saved_tensors
        return grad * torch.exp(-cross_entropies)


def _focus(misses: Tensor, gamma: float) -> Tensor:
    """Compute (1 − p_t)^γ; clamp 1 − p_t above 0, because 0 has a slope of inf for γ < 1."""
    if gamma < 0:
        raise ValueError(f"gamma must not be negative; got {gamma}")
    return misses.clamp(min=torch.finfo(misses.dtype).tiny).pow(gamma)


def _per_class(alpha: Alpha, logits: Tensor) -> Alpha:
    """Check `alpha` and move it to the device of `logits`."""
    if isinstance(alpha, Tensor):
        if alpha.shape != logits.shape[-1:]:
            raise ValueError(
                f"alpha must have one entry for each of the {logits.shape[-1]} classes; "
                f"got shape {tuple(alpha.shape)}"
            )
        return alpha.to(device=logits.device, dtype=widen(logits).dtype)
    return alpha

"""The focal loss: cross-entropy that turns its attention from what is already learnt to what is still wrong.

    FL = −α_t (1 − p_t)^γ log p_t

p_t being the probability of the truth. Lin et al., "Focal Loss for Dense Object Detection" (2017), eq. 5.
At γ = 0 and without α it is the cross-entropy. The mean is over the losses, whatever their α.
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
    """The focal loss of exclusive classes, p = softmax(logits).

    Args:
        logits: (..., C).
        targets: (...), class indices in [0, C).
        gamma: γ ≥ 0, how quickly a loss fades as p_t grows.
        alpha: (C,), a factor for each class, of which the target's is taken; a number, for all; or None.
        reduction: `"none"`, `"sum"` or `"mean"`.

    Returns:
        A scalar, or (...) without reduction, in the type of `logits` (fp32 for half precision in autocast).

    Raises:
        ValueError: shapes that don't match, an `alpha` without one entry per class, a negative `gamma`.
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
    """The focal loss of independent labels, p = sigmoid(logits).

    Args:
        logits: (...), or (..., C) with an `alpha` for each class.
        targets: The shape of `logits`; 0 or 1, or a probability between.
        gamma: γ ≥ 0, how quickly a loss fades as p_t grows.
        alpha: The factor α of positives, that of negatives being 1 − α: (C,), a number for all, or None.
        reduction: `"none"`, `"sum"` or `"mean"`.

    Returns:
        A scalar, or the shape of `logits` without reduction, in its type (fp32 for half precision in
            autocast).

    Raises:
        ValueError: shapes that don't match, an `alpha` without one entry per class, a negative `gamma`.
    """
    if targets.shape != logits.shape:
        raise ValueError(f"logits have shape {tuple(logits.shape)} and targets {tuple(targets.shape)}")
    factor = _per_class(alpha, logits)
    x = widen(logits)
    t = targets.to(x.dtype)
    misses = (1 - t) * backward.sigmoid(x) + t * backward.sigmoid(-x)  # 1 − p_t, as a sum of what is positive
    losses = _focus(misses, gamma) * backward.binary_cross_entropy(x, t)
    if factor is not None:
        losses = losses * (factor * t + (1 - factor) * (1 - t))
    return reduce(losses, reduction).to(result_dtype(logits))


class _Miss(Function):
    """1 − p_t from ℓ = −log p_t; its slope is p_t. With all digits of both, as neither is taken from 1."""

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
    """(1 − p_t)^γ. At exactly 0 its slope is inf for γ < 1, which times a loss of 0 would be NaN."""
    if gamma < 0:
        raise ValueError(f"gamma must not be negative; got {gamma}")
    return misses.clamp(min=torch.finfo(misses.dtype).tiny).pow(gamma)


def _per_class(alpha: Alpha, logits: Tensor) -> Alpha:
    """`alpha` on the device of `logits`, once it is known to fit."""
    if isinstance(alpha, Tensor):
        if alpha.shape != logits.shape[-1:]:
            raise ValueError(
                f"alpha must have one entry for each of the {logits.shape[-1]} classes; "
                f"got shape {tuple(alpha.shape)}"
            )
        return alpha.to(device=logits.device, dtype=widen(logits).dtype)
    return alpha

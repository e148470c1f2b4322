"""Cross-entropy and binary cross-entropy, of logits or probabilities.

Targets are class indices or distributions. From logits, logarithms come from a log-sum-exp, never from a
softmax, so logits of ±1e4 stay exact. Half precision is computed in fp32 and rounded once, at the end.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from lit_modules.functional import backward
from lit_modules.functional.precision import result_dtype, widen
from lit_modules.functional.reduction import Reduction, reduce
from lit_modules.functional.softmax import log_softmax
from lit_modules.functional.value_checks import (
    check_distribution,
    check_probabilities,
    refusing_unknown_classes,
)

Implementation = Literal["by_hand", "fused"]


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    implementation: Implementation = "by_hand",
) -> Tensor:
    """Compute −Σ_c w_c q_c log softmax(logits)_c, where q is the target distribution.

    This is `F.cross_entropy` with the classes last.

    For a class index t, q is one-hot at t. Label smoothing replaces q by (1 − s) q + s / C (Szegedy et al.,
    "Rethinking the Inception Architecture", 2016, section 7). The mean over index targets is weighted:
    Σ_n ℓ_n / Σ_n w_{t_n}, over the targets that are not ignored. The mean over distributions is Σ_n ℓ_n / N.

    Three results are NaN in PyTorch but not here. The mean over nothing (an empty batch, all targets ignored)
    is 0 with zero gradients. By hand, a class with q_c = 0 adds 0 even at a logit of −inf; and a row of −inf
    only gives inf with zero gradients, because its target has probability 0.

    By hand, index targets without smoothing need no tensor of probabilities (..., C).

    Args:
        logits: (..., C), the classes or vocabulary last.
        targets: (...) integer class indices in [0, C), or (..., C) floating-point distributions.
        weight: w, one factor per class (C,), or None.
        ignore_index: Index targets of this value are left out of the loss and of its mean.
        label_smoothing: s in [0, 1].
        reduction: `"none"`, `"sum"` or `"mean"`.
        implementation: `"by_hand"`, or `"fused"` for PyTorch's kernel, which is faster on small batches.

    Returns:
        A scalar, or (...) without reduction, in the type of `logits` (fp32 for half precision in autocast).

    Raises:
        ValueError: Shapes don't match, or an index or option is out of range.
    """
    classes = logits.shape[-1]
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1]; got {label_smoothing}")
    if weight is not None:
        if weight.shape != (classes,):
            raise ValueError(
                f"weight must have shape ({classes},), one factor per class; got {tuple(weight.shape)}"
            )
        weight = weight.to(widen(logits).dtype)
    if implementation not in get_args(Implementation):
        raise ValueError(f"implementation must be by_hand or fused; got {implementation!r}")
    _check_targets(logits, targets)

    of_rows: Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
    counts: Tensor | None
    if targets.is_floating_point():
        of_rows = _fused if implementation == "fused" else _of_distributions
        losses, counts = of_rows(logits, targets, weight, label_smoothing), None
    else:
        ignored = targets == ignore_index
        indices = targets.long().masked_fill(ignored, 0)
        of_rows = _fused if implementation == "fused" else _of_indices
        with refusing_unknown_classes(indices, classes):  # replaces PyTorch's error message
            losses = of_rows(logits, indices, weight, label_smoothing).masked_fill(ignored, 0)
        counts = ignored.logical_not().to(losses.dtype)
        if weight is not None:
            counts = counts * weight[indices]
    return reduce(losses, reduction, weights=counts).to(result_dtype(logits))


def _check_targets(logits: Tensor, targets: Tensor) -> None:
    """Check that the targets are class indices or distributions that fit the logits."""
    if targets.is_floating_point():
        if targets.shape != logits.shape:
            raise ValueError(
                f"floating-point targets are distributions and must have the inputs' shape "
                f"{tuple(logits.shape)}; got {tuple(targets.shape)}"
            )
    elif targets.shape != logits.shape[:-1] or targets.dtype == torch.bool:
        raise ValueError(
            f"index targets must be integers of shape {tuple(logits.shape[:-1])}, the inputs' shape without "
            f"the last dimension; got {targets.dtype} of shape {tuple(targets.shape)}"
        )


def _of_indices(logits: Tensor, indices: Tensor, weight: Tensor | None, label_smoothing: float) -> Tensor:
    """Return the losses (...) of class indices (...)."""
    losses = backward.softmax_cross_entropy(logits, indices)
    if weight is not None:
        factors = weight[indices]
        losses = (losses * factors).masked_fill(factors == 0, 0)  # also where the loss is inf
    if label_smoothing == 0:
        return losses
    uniform = -_dot(log_softmax(widen(logits)), weight) / logits.shape[-1]
    return (1 - label_smoothing) * losses + label_smoothing * uniform


def _of_distributions(
    logits: Tensor, targets: Tensor, weight: Tensor | None, label_smoothing: float
) -> Tensor:
    """Return the losses (...) of target distributions (..., C)."""
    smoothed = widen(targets) * (1 - label_smoothing) + label_smoothing / logits.shape[-1]
    return -_dot(log_softmax(widen(logits)), smoothed if weight is None else smoothed * weight)


def _fused(logits: Tensor, targets: Tensor, weight: Tensor | None, label_smoothing: float) -> Tensor:
    """Return the losses (...) of either kind of target, computed by PyTorch."""
    rows = logits.reshape(-1, logits.shape[-1])
    losses = F.cross_entropy(
        rows,
        targets.reshape(rows.shape if targets.is_floating_point() else -1),
        weight=None if weight is None else weight.to(logits.dtype),
        ignore_index=torch.iinfo(torch.int64).min,  # the caller has already replaced ignored targets
        label_smoothing=label_smoothing,
        reduction="none",
    )
    return widen(losses).reshape(logits.shape[:-1])


def _dot(log_probs: Tensor, coefficients: Tensor | None) -> Tensor:
    """Return Σ_c a_c log p_c (...) with coefficients a (1 for None); a class with a_c = 0 adds 0."""
    if coefficients is None:
        return log_probs.sum(-1)
    nothing = (coefficients == 0) & (log_probs == -torch.inf)  # 0 · log 0 is 0, not NaN
    return (log_probs.masked_fill(nothing, 0) * coefficients).sum(-1)


class _ClippedLog(Function):
    """log p, or log(1 − p) for the complement, at least −100; the slope is at most 1e12."""

    generate_vmap_rule = True

    @staticmethod
    def forward(p: Tensor, complement: bool) -> Tensor:
        return (torch.log1p(-p) if complement else p.log()).clamp_(min=-100)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        p, ctx.complement = inputs
        ctx.save_for_backward(p)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        return (grad / (p - 1).clamp(max=-1e-12) if ctx.complement else grad / p.clamp(min=1e-12)), None


def cross_entropy_from_probabilities(
    probabilities: Tensor, targets: Tensor, *, reduction: Reduction = "mean"
) -> Tensor:
    """Compute −Σ_c q_c log p_c from normalized probabilities p; prefer `cross_entropy` of logits.

    The logarithm is clipped at −100 and its slope 1/p at 1e12, as in PyTorch's binary cross-entropy. A target
    of probability 0 therefore costs 100 and still has a gradient.

    Args:
        probabilities: (..., C); each row sums to 1.
        targets: (...) integer class indices in [0, C), or (..., C) floating-point distributions.
        reduction: `"none"`, `"sum"`, or `"mean"` over the rows.

    Returns:
        A scalar, or (...) without reduction, in the type of `probabilities`.

    Raises:
        ValueError: A row is not a distribution, shapes don't match, or an index is out of range.
    """
    check_distribution(probabilities, "probabilities")
    _check_targets(probabilities, targets)
    p = widen(probabilities)
    if targets.is_floating_point():
        losses = -(widen(targets) * _ClippedLog.apply(p, False)).sum(-1)
    else:
        with refusing_unknown_classes(targets, p.shape[-1]):
            at_target = p.gather(-1, targets.long()[..., None]).squeeze(-1)
        losses = -_ClippedLog.apply(at_target, False)
    return reduce(losses, reduction).to(result_dtype(probabilities))


def binary_cross_entropy_with_logits(
    logits: Tensor, targets: Tensor, *, reduction: Reduction = "mean"
) -> Tensor:
    """Compute −t log σ(x) − (1 − t) log(1 − σ(x)) from logits x; no x overflows.

    Args:
        logits: (...).
        targets: (...), probabilities in [0, 1]; integers and booleans are converted.
        reduction: `"none"`, `"sum"` or `"mean"`.

    Returns:
        A scalar, or (...) without reduction, in the type of `logits` (fp32 for half precision in autocast).

    Raises:
        ValueError: The shapes differ; to broadcast (N,) against (N, 1) would give N² losses.
    """
    losses = backward.binary_cross_entropy(logits, _binary_targets(logits, targets))
    return reduce(losses, reduction).to(result_dtype(logits))


def binary_cross_entropy_from_probabilities(
    probabilities: Tensor, targets: Tensor, *, reduction: Reduction = "mean"
) -> Tensor:
    """Compute −t log p − (1 − t) log(1 − p); prefer `binary_cross_entropy_with_logits`.

    Each logarithm is clipped at −100 and its slope at 1e12, as in PyTorch.

    Args:
        probabilities: (...), in [0, 1].
        targets: (...), probabilities in [0, 1]; integers and booleans are converted.
        reduction: `"none"`, `"sum"` or `"mean"`.

    Returns:
        A scalar, or (...) without reduction, in the type of `probabilities`.

    Raises:
        ValueError: The shapes differ, or a probability is outside [0, 1].
    """
    check_probabilities(probabilities, "probabilities")
    t, p = _binary_targets(probabilities, targets), widen(probabilities)
    losses = -(t * _ClippedLog.apply(p, False) + (1 - t) * _ClippedLog.apply(p, True))
    return reduce(losses, reduction).to(result_dtype(probabilities))


def _binary_targets(inputs: Tensor, targets: Tensor) -> Tensor:
    """Convert `targets` to the type in which the loss of `inputs` is computed."""
    if inputs.shape != targets.shape:
        raise ValueError(f"inputs have shape {tuple(inputs.shape)} and targets {tuple(targets.shape)}")
    return targets.to(widen(inputs).dtype)

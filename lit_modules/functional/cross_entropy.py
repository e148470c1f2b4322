"""Cross-entropy of logits or probabilities, with class indices or distributions as targets; also binary.

From logits, every logarithm is a log-sum-exp and never the logarithm of a softmax, so logits of ±1e4 are as
exact as others. Half precision is computed in fp32 and rounded once at the end.
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
    """−Σ_c w_c q_c log softmax(logits)_c, q the target distribution: `F.cross_entropy` with classes last.

    With a class index t as target, q is one-hot at t. Smoothing replaces q by (1 − s) q + s / C (Szegedy et
    al., "Rethinking the Inception Architecture", 2016, section 7). The mean of index targets is weighted,
    Σ_n ℓ_n / Σ_n w_{t_n} over the targets that count; that of distributions is Σ_n ℓ_n / N.

    Where it goes beyond PyTorch: the mean over nothing (an empty batch, every target ignored) is 0 with zero
    gradients; by hand, a class with q_c = 0 adds nothing even at a logit of −inf, and a row of logits that is
    all −inf gives inf with zero gradients, as its target has no probability. All three are NaN in PyTorch.

    By hand, index targets without smoothing never materialise the (..., C) probabilities.

    Args:
        logits: (..., C), the classes or vocabulary last.
        targets: (...) integer class indices in [0, C), or (..., C) floating-point distributions.
        weight: (C,), a factor for each class, or None.
        ignore_index: Index targets of this value count neither in the loss nor in its mean.
        label_smoothing: s in [0, 1].
        reduction: `"none"`, `"sum"` or `"mean"`.
        implementation: `"by_hand"`, or `"fused"` for PyTorch's kernel, which is quicker on small batches.

    Returns:
        A scalar, or (...) without reduction, in the type of `logits` (fp32 for half precision in autocast).

    Raises:
        ValueError: shapes that don't match, an index out of range, or an option out of range.
    """
    classes = logits.shape[-1]
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1]; got {label_smoothing}")
    if weight is not None:
        if weight.shape != (classes,):
            raise ValueError(
                f"weight must have shape ({classes},), one each class; got {tuple(weight.shape)}"
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
        with refusing_unknown_classes(indices, classes):  # PyTorch's complaint; ours is worded so already
            losses = of_rows(logits, indices, weight, label_smoothing).masked_fill(ignored, 0)
        counts = ignored.logical_not().to(losses.dtype)
        if weight is not None:
            counts = counts * weight[indices]
    return reduce(losses, reduction, weights=counts).to(result_dtype(logits))


def _check_targets(logits: Tensor, targets: Tensor) -> None:
    """Refuses targets whose type and shape fit neither class indices nor distributions."""
    if targets.is_floating_point():
        if targets.shape != logits.shape:
            raise ValueError(
                f"floating-point targets are distributions and must have the inputs' shape, "
                f"{tuple(logits.shape)}; got {tuple(targets.shape)}"
            )
    elif targets.shape != logits.shape[:-1] or targets.dtype == torch.bool:
        raise ValueError(
            f"index targets must be integers of shape {tuple(logits.shape[:-1])}, the inputs' without the "
            f"last dimension; got {targets.dtype} of shape {tuple(targets.shape)}"
        )


def _of_indices(logits: Tensor, indices: Tensor, weight: Tensor | None, label_smoothing: float) -> Tensor:
    """The losses (...) of class indices (...)."""
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
    """The losses (...) of target distributions (..., C)."""
    smoothed = widen(targets) * (1 - label_smoothing) + label_smoothing / logits.shape[-1]
    return -_dot(log_softmax(widen(logits)), smoothed if weight is None else smoothed * weight)


def _fused(logits: Tensor, targets: Tensor, weight: Tensor | None, label_smoothing: float) -> Tensor:
    """The losses (...) of either kind of target, by PyTorch."""
    rows = logits.reshape(-1, logits.shape[-1])
    losses = F.cross_entropy(
        rows,
        targets.reshape(rows.shape if targets.is_floating_point() else -1),
        weight=None if weight is None else weight.to(logits.dtype),
        ignore_index=torch.iinfo(torch.int64).min,  # the caller has replaced what is ignored
        label_smoothing=label_smoothing,
        reduction="none",
    )
    return widen(losses).reshape(logits.shape[:-1])


def _dot(log_probs: Tensor, coefficients: Tensor | None) -> Tensor:
    """Σ_c a_c log p_c (...), of coefficients that are 1 if None; a class with a_c = 0 adds nothing."""
    if coefficients is None:
        return log_probs.sum(-1)
    nothing = (coefficients == 0) & (log_probs == -torch.inf)  # 0 · log 0 is 0, not NaN
    return (log_probs.masked_fill(nothing, 0) * coefficients).sum(-1)


class _ClippedLog(Function):
    """log p, or log(1 − p) for the complement: value no less than −100, slope no steeper than 1e12."""

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
    """−Σ_c q_c log p_c, from probabilities p that are already normalised. Prefer `cross_entropy` of logits.

    Clipping: the logarithm is taken as no less than −100 and its slope 1/p as no steeper than 1e12, which is
    what PyTorch does in its binary case. A target without any probability costs 100 and still has a way back.

    Args:
        probabilities: (..., C), each row summing to 1.
        targets: (...) integer class indices in [0, C), or (..., C) floating-point distributions.
        reduction: `"none"`, `"sum"` or `"mean"`, the last over the rows.

    Returns:
        A scalar, or (...) without reduction, in the type of `probabilities`.

    Raises:
        ValueError: rows that aren't distributions, shapes that don't match, an index out of range.
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
    """−t log σ(x) − (1 − t) log(1 − σ(x)), from logits x of any size.

    Args:
        logits: (...).
        targets: (...), probabilities in [0, 1]; integers and booleans are taken as such.
        reduction: `"none"`, `"sum"` or `"mean"`.

    Returns:
        A scalar, or (...) without reduction, in the type of `logits` (fp32 for half precision in autocast).

    Raises:
        ValueError: the shapes differ; broadcasting (N,) against (N, 1) would give N² losses.
    """
    losses = backward.binary_cross_entropy(logits, _binary_targets(logits, targets))
    return reduce(losses, reduction).to(result_dtype(logits))


def binary_cross_entropy_from_probabilities(
    probabilities: Tensor, targets: Tensor, *, reduction: Reduction = "mean"
) -> Tensor:
    """−t log p − (1 − t) log(1 − p), from probabilities p. Prefer `binary_cross_entropy_with_logits`.

    Clipping: a logarithm is taken as no less than −100 and its slope as no steeper than 1e12, as in PyTorch.

    Args:
        probabilities: (...), in [0, 1].
        targets: (...), probabilities in [0, 1]; integers and booleans are taken as such.
        reduction: `"none"`, `"sum"` or `"mean"`.

    Returns:
        A scalar, or (...) without reduction, in the type of `probabilities`.

    Raises:
        ValueError: the shapes differ, or `probabilities` leave [0, 1].
    """
    check_probabilities(probabilities, "probabilities")
    t, p = _binary_targets(probabilities, targets), widen(probabilities)
    losses = -(t * _ClippedLog.apply(p, False) + (1 - t) * _ClippedLog.apply(p, True))
    return reduce(losses, reduction).to(result_dtype(probabilities))


def _binary_targets(inputs: Tensor, targets: Tensor) -> Tensor:
    """`targets` in the type that the loss of `inputs` is computed in."""
    if inputs.shape != targets.shape:
        raise ValueError(f"inputs have shape {tuple(inputs.shape)} and targets {tuple(targets.shape)}")
    return targets.to(widen(inputs).dtype)

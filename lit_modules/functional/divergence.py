"""The Kullback–Leibler divergence, KL(p ‖ q) = Σ_c p_c log(p_c / q_c), of probabilities or of logits."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lit_modules.functional.precision import result_dtype, widen
from lit_modules.functional.reduction import Reduction, reduce
from lit_modules.functional.softmax import log_softmax, softmax
from lit_modules.functional.value_checks import check_distribution


def kl_divergence(p: Tensor, q: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Compute KL(p ‖ q) in nats: the cost of using q when p is true. It is not symmetric.

    Nothing is clamped: a class with p_c = 0 adds exactly 0; a class with q_c = 0 < p_c makes the result inf.
    The slope log(p_c / q_c) + 1 is −inf at p_c = 0; the gradient there is 0 instead.

    Args:
        p: (..., C); each row is a distribution.
        q: (..., C); each row is a distribution.
        reduction: `"none"`, `"sum"`, or `"mean"` over the rows. PyTorch's `"mean"` also divides by C; the
            mean over the rows is its `"batchmean"`.

    Returns:
        A scalar, or (...) without reduction, in the type of `p` (fp32 for half precision in autocast).

    Raises:
        ValueError: The shapes differ, or a row is not a distribution.
    """
    _check_shapes(p, q)
    check_distribution(p, "p")
    check_distribution(q, "q")
    absent = p == 0
    # Where p = 0 take both logarithms of 1: a NaN or inf that is masked later would stay in the gradients.
    log_ratio = widen(p).masked_fill(absent, 1).log() - widen(q).masked_fill(absent, 1).log()
    return reduce((widen(p) * log_ratio).sum(-1), reduction).to(result_dtype(p))


def kl_divergence_from_logits(
    p_logits: Tensor, q_logits: Tensor, *, temperature: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Compute KL(softmax(a / T) ‖ softmax(b / T)); in distillation a belongs to the teacher.

    The gradients scale with 1/T². To balance them with a loss at T = 1, multiply the result by T² (Hinton,
    Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2).

    A logit of −inf is a probability of 0. In a it adds 0, even if the row is −inf only; in b alone it gives
    inf.

    Args:
        p_logits: a, (..., C).
        q_logits: b, (..., C).
        temperature: T > 0.
        reduction: `"none"`, `"sum"`, or `"mean"` over the rows. PyTorch's `"mean"` also divides by C; the
            mean over the rows is its `"batchmean"`.

    Returns:
        A scalar, or (...) without reduction, in the type of `p_logits` (fp32 for half precision in autocast).

    Raises:
        ValueError: The shapes differ, or `temperature` is not positive.
    """
    _check_shapes(p_logits, q_logits)
    if not temperature > 0:
        raise ValueError(f"temperature must be positive; got {temperature}")
    losses: Tensor = _KLOfLogits.apply(widen(p_logits) / temperature, widen(q_logits) / temperature)
    return reduce(losses, reduction).to(result_dtype(p_logits))


class _KLOfLogits(Function):
    """ℓ = Σ_c p_c r_c with r = log p − log q, p = softmax(a), q = softmax(b).

    Σ_c p_c ∂ log p_c/∂a_i = 0, so only the factor p_c contributes:

        ∂L/∂a = g p ⊙ (r − ℓ),    ∂L/∂b = g (q − p)
    """

    generate_vmap_rule = True

    @staticmethod
    def _log_ratio(a: Tensor, b: Tensor) -> Tensor:
        """Return r, but 0 where p is 0."""
        log_p, log_q = log_softmax(a), log_softmax(b)
        absent = log_p == -torch.inf
        return log_p.masked_fill(absent, 0) - log_q.masked_fill(absent, 0)

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return (softmax(a) * _KLOfLogits._log_ratio(a, b)).sum(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        p, log_ratio = softmax(a), _KLOfLogits._log_ratio(a, b)
        grad = grad[..., None]
        q_share = softmax(b).masked_fill((p == 0).all(-1, keepdim=True), 0)  # no slope without any p
        return (
            grad * p * (log_ratio - (p * log_ratio).sum(-1, keepdim=True))
            if ctx.needs_input_grad[0]
            else None,
            grad * (q_share - p) if ctx.needs_input_grad[1] else None,
        )


def _check_shapes(p: Tensor, q: Tensor) -> None:
    if p.shape != q.shape:
        raise ValueError(f"p and q must have the same shape; got {tuple(p.shape)} and {tuple(q.shape)}")

"""The softmax family: `softmax`, `log_softmax` and `logsumexp`, each with its backward pass derived by hand.

All subtract the row's maximum first, so that nothing overflows at any finite input. A *row* is what runs
along the reduced dimension. A row that is all −inf is a distribution over nothing; here it has these results,
and zero gradients:

    softmax      all 0     no class has any probability (what attention wants of a fully masked row)
    log_softmax  all −inf  the logarithm of that
    logsumexp    −inf      the logarithm of an empty sum

A NaN anywhere in a row makes its results NaN. So does +inf, except that `logsumexp` is then +inf. Half
precision is computed in fp32 and rounded once at the end; under autocast the result stays fp32.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lit_modules.functional.precision import result_dtype, widen

Dim = int | tuple[int, ...]


def _peak(x: Tensor, dim: Dim) -> Tensor:
    """The maximum along `dim`, kept as a size of 1; 0 for an all −inf row, so that x − peak is no NaN."""
    if x.numel() == 0:
        return x.sum(dim, keepdim=True)  # zeros in the right shape, where a maximum over nothing would raise
    peak = x.amax(dim, keepdim=True)
    return peak.masked_fill(peak == -torch.inf, 0)


class _Softmax(Function):
    """p = exp(x − peak) / Σ exp(x − peak);  ∂L/∂x = p ⊙ (g − Σ g ⊙ p), the sum over the row."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        exponentials = (x - _peak(x, dim)).exp_()
        total = exponentials.sum(dim, keepdim=True)
        return exponentials.div_(total.masked_fill_(total == 0, 1))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dim = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        return p * (grad - (grad * p).sum(ctx.dim, keepdim=True)), None


class _LogSoftmax(Function):
    """y = (x − peak) − log Σ exp(x − peak);  ∂L/∂x = g − exp(y) · Σ g, the sum over the row."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        shifted = x - _peak(x, dim)
        total = shifted.exp().sum(dim, keepdim=True)
        # −inf − log 0 would be NaN: leave an all −inf row as it is.
        return shifted.sub_(total.masked_fill_(total == 0, 1).log_())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dim = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        if y.numel() == 0:
            return grad, None
        empty = y.amax(ctx.dim, keepdim=True) == -torch.inf
        total = grad.sum(ctx.dim, keepdim=True)
        return torch.addcmul(grad, y.exp(), total, value=-1).masked_fill(empty, 0), None


class _LogSumExp(Function):
    """z = peak + log Σ exp(x − peak);  ∂L/∂x = g · softmax(x), from x − peak, not from the rounded x − z."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: Dim) -> Tensor:
        peak = _peak(x, dim)
        peak.masked_fill_(peak == torch.inf, 0)  # +inf has a logarithm, +inf − +inf has not
        return (x - peak).exp_().sum(dim, keepdim=True).log_().add_(peak)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dim = inputs[1]
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # The gradient is recomputed from the input alone, which keeps it differentiable a second time.
        exponentials = (x - _peak(x.detach(), ctx.dim)).exp()
        total = exponentials.sum(ctx.dim, keepdim=True)
        return grad * exponentials / total.masked_fill(total == 0, 1), None


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """exp(x_i) / Σ_j exp(x_j) along `dim`; zeros in a row that is all −inf.

    Args:
        x: (..., C, ...), floating-point.
        dim: The dimension that sums to 1.

    Returns:
        The shape and type of `x` (fp32 for half precision under autocast).
    """
    return _Softmax.apply(widen(x), dim).to(result_dtype(x))


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """x_i − log Σ_j exp(x_j) along `dim`, never the logarithm of a softmax; −inf in a row that is all −inf.

    Args:
        x: (..., C, ...), floating-point.
        dim: The dimension whose exponentials sum to 1.

    Returns:
        The shape and type of `x` (fp32 for half precision under autocast).
    """
    return _LogSoftmax.apply(widen(x), dim).to(result_dtype(x))


def logsumexp(x: Tensor, dim: Dim = -1, *, keepdim: bool = False) -> Tensor:
    """log Σ_i exp(x_i) along `dim`; −inf for a row that is all −inf or has no elements.

    Args:
        x: Floating-point, any shape.
        dim: The dimension or dimensions to reduce.
        keepdim: Keep each of them, with size 1.

    Returns:
        `x` without `dim`, in its type (fp32 for half precision under autocast).
    """
    result = _LogSumExp.apply(widen(x), dim).to(result_dtype(x))
    return result if keepdim else result.squeeze(dim)

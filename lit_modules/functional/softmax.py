"""The softmax family: `softmax`, `log_softmax` and `logsumexp`, with backward passes derived by hand.

All three subtract the row's maximum (`peak`) first, so no finite input overflows. A *row* is a vector along
the reduced dimension. A row of −inf only is a distribution over no class. Its gradients are 0, its results
are:

    softmax      all 0     no class has any probability (what attention needs for a fully masked row)
    log_softmax  all −inf  the logarithm of that
    logsumexp    −inf      the logarithm of an empty sum

A NaN in a row makes its results NaN. So does +inf, except that `logsumexp` is then +inf. Half precision is
computed in fp32 and rounded once, at the end; under autocast the result stays fp32.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lit_modules.functional.precision import result_dtype, widen

Dim = int | tuple[int, ...]


def _peak(x: Tensor, dim: Dim) -> Tensor:
    """Return the maximum along `dim`, kept with size 1; 0 for a row of −inf only, where x − peak is NaN."""
    if x.numel() == 0:
        return x.sum(dim, keepdim=True)  # zeros of the right shape; a maximum over nothing would raise
    peak = x.amax(dim, keepdim=True)
    return peak.masked_fill(peak == -torch.inf, 0)


class _Softmax(Function):
    """p = exp(x − peak) / Σ exp(x − peak);  ∂L/∂x = p ⊙ (g − Σ g ⊙ p), summed over the row."""

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
    """y = (x − peak) − log Σ exp(x − peak);  ∂L/∂x = g − exp(y) · Σ g, summed over the row."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        shifted = x - _peak(x, dim)
        total = shifted.exp().sum(dim, keepdim=True)
        # Leave a row of −inf unchanged: −inf − log 0 would be NaN.
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
    """z = peak + log Σ exp(x − peak);  ∂L/∂x = g · softmax(x).

    The softmax is computed from x − peak, because x − z is rounded.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: Dim) -> Tensor:
        peak = _peak(x, dim)
        peak.masked_fill_(peak == torch.inf, 0)  # log(+inf) is +inf, but +inf − +inf is NaN
        return (x - peak).exp_().sum(dim, keepdim=True).log_().add_(peak)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dim = inputs[1]
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # Computed from the input alone, so that it can be differentiated again.
        exponentials = (x - _peak(x.detach(), ctx.dim)).exp()
        total = exponentials.sum(ctx.dim, keepdim=True)
        return grad * exponentials / total.masked_fill(total == 0, 1), None


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Compute exp(x_i) / Σ_j exp(x_j) along `dim`; zeros for a row of −inf only.

    Args:
        x: (..., C, ...), floating-point.
        dim: The dimension that sums to 1.

    Returns:
        The shape and type of `x` (fp32 for half precision under autocast).
    """
    return _Softmax.apply(widen(x), dim).to(result_dtype(x))


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Compute x_i − log Σ_j exp(x_j) along `dim`; −inf for a row of −inf only.

    It is never computed as the logarithm of a softmax, which could be log 0.

    Args:
        x: (..., C, ...), floating-point.
        dim: The dimension whose exponentials sum to 1.

    Returns:
        The shape and type of `x` (fp32 for half precision under autocast).
    """
    return _LogSoftmax.apply(widen(x), dim).to(result_dtype(x))


def logsumexp(x: Tensor, dim: Dim = -1, *, keepdim: bool = False) -> Tensor:
    """Compute log Σ_i exp(x_i) along `dim`; −inf for a row that is empty or −inf only.

    Args:
        x: Floating-point, any shape.
        dim: The dimension or dimensions to reduce.
        keepdim: Keep each reduced dimension with size 1.

    Returns:
        `x` without `dim`, in the type of `x` (fp32 for half precision under autocast).
    """
    result = _LogSumExp.apply(widen(x), dim).to(result_dtype(x))
    return result if keepdim else result.squeeze(dim)

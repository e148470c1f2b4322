"""Layer norm and RMS norm with backward passes derived by hand.

See `lit_modules.functional.backward` for the conventions.

Shape letters: `...` any leading dimensions, N their product, F features.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lit_modules.functional.precision import widen


class _LayerNorm(Function):
    """y = x̂ ⊙ w + b with x̂ = (x − μ) r, r = (σ² + ε)^(−1/2), over the F features of each row of x (N, F).

    σ² is the biased variance. μ and r depend on every x_i of the row. With ĝ = g ⊙ w:

        ∂r/∂x_i = −r² x̂_i / F    and    ∂x̂_j/∂x_i = r ([i = j] − 1/F − x̂_i x̂_j / F)
        ∂L/∂x = r (ĝ − mean(ĝ) − x̂ mean(ĝ ⊙ x̂)),    ∂L/∂w = Σ_n g_n ⊙ x̂_n,    ∂L/∂b = Σ_n g_n

    Source: Ba, Kiros and Hinton, "Layer Normalization" (2016), eq. 4.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        y, _ = _standardize(widen(x), eps)
        if weight is not None:
            y = y * weight
        return (y if bias is None else y + bias).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, ctx.eps = inputs
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        _, needs_weight, needs_bias, _ = ctx.needs_input_grad
        normed, rescale = _standardize(widen(x), ctx.eps)
        grad = widen(grad)
        scaled = grad if weight is None else grad * weight
        along = (scaled * normed).mean(-1, keepdim=True)
        return (
            (rescale * (scaled - scaled.mean(-1, keepdim=True) - normed * along)).to(x.dtype),
            (grad * normed).sum(0).to(weight.dtype) if needs_weight else None,
            grad.sum(0).to(ctx.bias_dtype) if needs_bias else None,
            None,
        )


class _RMSNorm(Function):
    """y = x̂ ⊙ w with x̂ = x r and r = (mean(x²) + ε)^(−1/2), over the F features of each row of x (N, F).

    ∂r/∂x_i = −r² x̂_i / F as in layer norm, but there is no mean to differentiate. With ĝ = g ⊙ w:

        ∂L/∂x = r (ĝ − x̂ mean(ĝ ⊙ x̂)),    ∂L/∂w = Σ_n g_n ⊙ x̂_n

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), eq. 4.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        wide = widen(x)
        y = wide * _inverse_root(wide, eps)
        return (y if weight is None else y.mul_(weight)).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, ctx.eps = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wide, grad = widen(x), widen(grad)
        factor = _inverse_root(wide, ctx.eps)  # (N, 1)
        products = grad * wide
        # Memory traffic limits the speed: sum by products with vectors, and never store x̂ and ĝ.
        with torch.autocast(x.device.type, enabled=False):
            dots = products.sum(1) if weight is None else products @ weight.to(products.dtype)
            slope = products.T @ factor[:, 0] if ctx.needs_input_grad[1] else None
        along = dots[:, None] * factor / x.shape[1]  # mean(ĝ ⊙ x̂)
        scaled = grad * factor if weight is None else (grad * factor).mul_(weight)
        return (
            torch.addcmul(scaled, wide, along * factor.square(), value=-1).to(x.dtype),
            None if slope is None else slope.to(weight.dtype),
            None,
        )


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """Compute (x − μ) / √(σ² + ε) ⊙ w + b over the last dimensions; σ² is the biased variance.

    Args:
        x: (..., *normalized_shape).
        normalized_shape: Sizes of the last dimensions, which are normalized together.
        weight: w, of shape `normalized_shape`, or None.
        bias: b, of shape `normalized_shape`, or None.
        eps: ε.

    Returns:
        The shape and type of `x`; statistics are in at least fp32.

    Raises:
        ValueError: The shape of `x` doesn't end in `normalized_shape`.
    """
    rows = _rows(x, normalized_shape)
    y: Tensor = _LayerNorm.apply(rows, *(None if p is None else p.reshape(-1) for p in (weight, bias)), eps)
    return y.reshape(x.shape)


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, *, eps: float = 1e-6
) -> Tensor:
    """Compute x / √(mean(x²) + ε) ⊙ w over the last dimensions.

    Args:
        x: (..., *normalized_shape).
        normalized_shape: Sizes of the last dimensions, which are normalized together.
        weight: w, of shape `normalized_shape`, or None.
        eps: ε.

    Returns:
        The shape and type of `x`; statistics are in at least fp32.

    Raises:
        ValueError: The shape of `x` doesn't end in `normalized_shape`.
    """
    rows = _rows(x, normalized_shape)
    y: Tensor = _RMSNorm.apply(rows, None if weight is None else weight.reshape(-1), eps)
    return y.reshape(x.shape)


def _rows(x: Tensor, normalized_shape: Sequence[int]) -> Tensor:
    """Reshape `x` to (N, F), where F is the product of `normalized_shape`."""
    split = x.dim() - len(normalized_shape)
    if split < 0 or tuple(x.shape[split:]) != tuple(normalized_shape):
        raise ValueError(
            f"x of shape {tuple(x.shape)} doesn't end in normalized_shape {tuple(normalized_shape)}"
        )
    return x.reshape(math.prod(x.shape[:split]), math.prod(normalized_shape))


def _standardize(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return (x − μ) / √(σ² + ε) over the last dimension, and the factor 1 / √(σ² + ε)."""
    centred = x - x.mean(-1, keepdim=True)
    factor = (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
    return centred * factor, factor


def _inverse_root(x: Tensor, eps: float) -> Tensor:
    """Return 1 / √(mean(x²) + ε) over the last dimension, kept with size 1, without storing the squares."""
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1]
    return (mean_square + eps).rsqrt()

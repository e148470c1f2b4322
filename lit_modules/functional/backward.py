"""Backward passes derived by hand, as `torch.autograd.Function`s, each behind a typed function.

With L the final scalar and g = ∂L/∂y handed down to a function y = f(x), its backward returns ∂L/∂x. Each
derivation is in its class's docstring. A backward keeps inputs and outputs only and recomputes the rest, in
operations that can themselves be differentiated, so second derivatives (`gradgradcheck`) are right too.

Shape letters: `...` any leading dimensions, N their product, C classes, F features.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lit_modules.functional.blocks import join, row_blocks
from lit_modules.functional.precision import widen
from lit_modules.functional.softmax import softmax
from lit_modules.functional.value_checks import refusing_unknown_classes


class Linear(Function):
    """y = x Wᵀ + b, rows of x being samples.

    y_no = Σ_i x_ni W_oi + b_o, hence  ∂L/∂x = g W,  ∂L/∂W = gᵀ x,  ∂L/∂b = Σ_n g_n.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # addmm adds the bias before the result is rounded to half precision, not after
        return x @ weight.T if bias is None else torch.addmm(bias, x, weight.T)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            grad @ weight if needs_x else None,
            grad.T @ x if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )


class ReLU(Function):
    """y = max(x, 0);  ∂L/∂x = g where x > 0, else 0 (the subgradient at 0 is taken as 0, as in PyTorch)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad.masked_fill(y <= 0, 0)


class Sigmoid(Function):
    """y = 1 / (1 + exp(−x));  dy/dx = exp(−x) / (1 + exp(−x))² = y (1 − y), hence  ∂L/∂x = g y (1 − y)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        decay = x.abs().neg_().exp_()  # exp(−|x|) can't overflow
        return torch.where(x >= 0, 1, decay) / (1 + decay)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * (y * (1 - y))


class BinaryCrossEntropy(Function):
    """ℓ = −t log σ(x) − (1 − t) log(1 − σ(x)), from the logit x and the target t in [0, 1].

    As log σ(x) = −log(1 + exp(−x)) and log(1 − σ(x)) = −x + log σ(x), it is ℓ = (1 − t) x + log(1 + exp(−x)).
    For x < 0, log(1 + exp(−x)) = −x + log(1 + exp(x)), so that in either case

        ℓ = ((1 − t) x  if x ≥ 0,  −t x  if x < 0) + log(1 + exp(−|x|))

    where neither term is negative, overflows or cancels. As dℓ/dx = σ(x) − t and dℓ/dt = −x,
    ∂L/∂x = g ((1 − t) σ(x) − t σ(−x)), which unlike σ(x) − t keeps its digits as it goes to 0.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, targets: Tensor) -> Tensor:
        linear = torch.where(logits >= 0, 1 - targets, -targets) * logits
        return linear + logits.abs().neg_().exp_().log1p_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, targets = ctx.saved_tensors
        needs_logits, needs_targets = ctx.needs_input_grad
        slope = (1 - targets) * sigmoid(logits) - targets * sigmoid(-logits) if needs_logits else None
        return (
            grad * slope if slope is not None else None,
            -grad * logits if needs_targets else None,
        )


class SoftmaxCrossEntropy(Function):
    """ℓ_n = −log softmax(x_n)_t = log Σ_c exp(x_nc) − x_nt, from logits x (N, C) and one class t per row.

    The derivative of the log-sum-exp is the softmax p, hence  ∂L/∂x_nc = g_n (p_nc − [c = t_n]).

    Rows are taken in blocks, and the probabilities are recomputed in the backward: nothing of size (N, C)
    exists but the logits and their gradient. A row that is all −inf gives its target no probability:
    the loss is inf, and its gradient 0.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        losses, empty = [], []
        for rows in row_blocks(logits):
            x = widen(logits[rows])
            peak = x.amax(-1, keepdim=True) if x.numel() else x.sum(-1, keepdim=True)
            is_empty = peak == -torch.inf
            shifted = x - peak.masked_fill_(is_empty, 0)
            at_target = shifted.gather(-1, targets[rows, None])
            # log Σ exp(x − peak) and x_t − peak are small, log Σ exp(x) and x_t can be large and alike
            log_total = shifted.exp_().sum(-1, keepdim=True).log_()
            losses.append((log_total - at_target).masked_fill_(is_empty, torch.inf))
            empty.append(is_empty)
        return join(losses).squeeze(-1), join(empty).squeeze(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
        logits, targets, is_empty = ctx.saved_tensors
        grad = grad.masked_fill(is_empty, 0)[:, None]
        result = torch.empty_like(logits)
        for rows in row_blocks(logits):
            p = softmax(widen(logits[rows]))
            result[rows] = (p * grad[rows]).scatter_add_(-1, targets[rows, None], -grad[rows])
        return result, None


class LayerNorm(Function):
    """y = x̂ ⊙ w + b with x̂ = (x − μ) r, r = (σ² + ε)^(−1/2), over the F normalised features of a row.

    σ² is the biased variance. With ĝ = g ⊙ w, and μ and r depending on every x_i of the row:

        ∂r/∂x_i = −r² x̂_i / F    and    ∂x̂_j/∂x_i = r ([i = j] − 1/F − x̂_i x̂_j / F)
        ∂L/∂x = r (ĝ − mean(ĝ) − x̂ mean(ĝ ⊙ x̂)),    ∂L/∂w = Σ_n g_n ⊙ x̂_n,    ∂L/∂b = Σ_n g_n

    Ba, Kiros and Hinton, "Layer Normalization" (2016), eq. 4. Here x is (N, F).
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


class RMSNorm(Function):
    """y = x̂ ⊙ w with x̂ = x r, r = (mean(x²) + ε)^(−1/2), over the F normalised features of a row.

    As ∂r/∂x_i = −r² x̂_i / F, the mean of LayerNorm's derivation falls away: with ĝ = g ⊙ w,

        ∂L/∂x = r (ĝ − x̂ mean(ĝ ⊙ x̂)),    ∂L/∂w = Σ_n g_n ⊙ x̂_n

    Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), eq. 4. Here x is (N, F).
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
        # Sums as products with vectors, and x̂ and ĝ never written out: it is memory that this waits for.
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


def _inverse_root(x: Tensor, eps: float) -> Tensor:
    """1 / √(mean(x²) + ε) over the last dimension, kept with size 1; no squares are written out."""
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1]
    return (mean_square + eps).rsqrt()


def _standardize(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(x − μ) / √(σ² + ε) and the factor, over the last dimension; σ² is the mean square of the centred x."""
    centred = x - x.mean(-1, keepdim=True)
    factor = (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
    return centred * factor, factor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,), or None.

    Returns:
        (..., out_features).

    Raises:
        ValueError: the widths of `x` and `weight` differ.
    """
    if x.shape[-1] != weight.shape[-1]:
        raise ValueError(f"x has {x.shape[-1]} features and weight takes {weight.shape[-1]}")
    y: Tensor = Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)
    return y.reshape(*x.shape[:-1], weight.shape[0])


def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element."""
    return ReLU.apply(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(−x)), element by element, without overflow at any x."""
    return Sigmoid.apply(widen(x)).to(x.dtype)


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """−t log σ(x) − (1 − t) log(1 − σ(x)), one loss per element, in at least fp32.

    Args:
        logits: (...).
        targets: (...), probabilities.

    Returns:
        (...).
    """
    return BinaryCrossEntropy.apply(widen(logits), widen(targets))


def softmax_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """−log softmax(x)_t, one loss per row, in at least fp32.

    Args:
        logits: (..., C).
        targets: (...), int64 class indices in [0, C).

    Returns:
        (...).

    Raises:
        ValueError: an index out of range.
    """
    classes = logits.shape[-1]
    with refusing_unknown_classes(targets, classes):
        losses, _ = SoftmaxCrossEntropy.apply(logits.reshape(targets.numel(), classes), targets.reshape(-1))
    return losses.reshape(targets.shape)


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """(x − μ) / √(σ² + ε) ⊙ w + b over the last dimensions, with the biased variance and ε inside the root.

    Args:
        x: (..., *normalized_shape).
        normalized_shape: The sizes of the last dimensions, which are normalised together.
        weight: normalized_shape, or None.
        bias: normalized_shape, or None.
        eps: Added to the variance.

    Returns:
        The shape and type of `x`; statistics are in at least fp32.

    Raises:
        ValueError: `x` doesn't end in `normalized_shape`.
    """
    rows = _rows(x, normalized_shape)
    y: Tensor = LayerNorm.apply(rows, *(None if p is None else p.reshape(-1) for p in (weight, bias)), eps)
    return y.reshape(x.shape)


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, *, eps: float = 1e-6
) -> Tensor:
    """x / √(mean(x²) + ε) ⊙ w over the last dimensions, with ε inside the root.

    Args:
        x: (..., *normalized_shape).
        normalized_shape: The sizes of the last dimensions, which are normalised together.
        weight: normalized_shape, or None.
        eps: Added to the mean square.

    Returns:
        The shape and type of `x`; statistics are in at least fp32.

    Raises:
        ValueError: `x` doesn't end in `normalized_shape`.
    """
    rows = _rows(x, normalized_shape)
    y: Tensor = RMSNorm.apply(rows, None if weight is None else weight.reshape(-1), eps)
    return y.reshape(x.shape)


def _rows(x: Tensor, normalized_shape: Sequence[int]) -> Tensor:
    """`x` as (N, F), F being the product of `normalized_shape`."""
    split = x.dim() - len(normalized_shape)
    if split < 0 or tuple(x.shape[split:]) != tuple(normalized_shape):
        raise ValueError(
            f"x of shape {tuple(x.shape)} doesn't end in normalized_shape {tuple(normalized_shape)}"
        )
    return x.reshape(math.prod(x.shape[:split]), math.prod(normalized_shape))

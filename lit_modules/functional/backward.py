"""Linear layer, ReLU, sigmoid and cross-entropies with backward passes derived by hand.

Each is a `torch.autograd.Function` behind a typed function. L is the final scalar, y = f(x) the output and
g = ∂L/∂y the incoming gradient; the backward pass returns ∂L/∂x. The class docstrings hold the derivations.
A backward pass saves only inputs and outputs and recomputes the rest with differentiable operations, so
second derivatives (`gradgradcheck`) are right too.

Shape letters: `...` any leading dimensions, N their product, C classes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lit_modules.functional.blocks import join, row_blocks
from lit_modules.functional.precision import widen
from lit_modules.functional.softmax import softmax
from lit_modules.functional.value_checks import refusing_unknown_classes


class _Linear(Function):
    """y = x Wᵀ + b for the rows of x.

    y_no = Σ_i x_ni W_oi + b_o, so  ∂L/∂x = g W,  ∂L/∂W = gᵀ x,  ∂L/∂b = Σ_n g_n.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # addmm adds the bias before it rounds the result to half precision
        return x @ weight.T if bias is None else torch.addmm(bias, x, weight.T)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad = grad.to(weight.dtype)  # autocast gives the output another type than the weights
        return (
            grad @ weight if needs_x else None,
            grad.T @ x.to(weight.dtype) if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )


class _ReLU(Function):
    """y = max(x, 0);  ∂L/∂x = g where x > 0, else 0.

    The subgradient at 0 is 0, as in PyTorch.
    """

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


class _Sigmoid(Function):
    """y = 1 / (1 + exp(−x));  dy/dx = exp(−x) / (1 + exp(−x))² = y (1 − y), so  ∂L/∂x = g y (1 − y)."""

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


class _BinaryCrossEntropy(Function):
    """ℓ = −t log σ(x) − (1 − t) log(1 − σ(x)) for a logit x and a target t in [0, 1].

    With log σ(x) = −log(1 + exp(−x)) and log(1 − σ(x)) = −x + log σ(x), ℓ = (1 − t) x + log(1 + exp(−x)).
    For x < 0, log(1 + exp(−x)) = −x + log(1 + exp(x)). Both cases together:

        ℓ = ((1 − t) x  if x ≥ 0,  −t x  if x < 0) + log(1 + exp(−|x|))

    Neither term is negative, overflows or cancels. With dℓ/dx = σ(x) − t and dℓ/dt = −x,
    ∂L/∂x = g ((1 − t) σ(x) − t σ(−x)). Unlike σ(x) − t, this form stays exact as it approaches 0.
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


class _SoftmaxCrossEntropy(Function):
    """ℓ_n = −log softmax(x_n)_t = log Σ_c exp(x_nc) − x_nt for logits x (N, C) and a class t_n per row.

    The derivative of the log-sum-exp is the softmax p, so  ∂L/∂x_nc = g_n (p_nc − [c = t_n]).

    Both passes process blocks of rows, and the backward pass recomputes p. The logits and their gradient are
    the only tensors of size (N, C). In a row of −inf only, the target has probability 0: the loss is inf and
    the gradient 0.
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
            # Subtract the peak first: log Σ exp(x) and x_t can be large and almost equal.
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


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x Wᵀ + b.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,), or None.

    Returns:
        (..., out_features).

    Raises:
        ValueError: The widths of `x` and `weight` differ.
    """
    if x.shape[-1] != weight.shape[-1]:
        raise ValueError(f"x has {x.shape[-1]} features, but weight takes {weight.shape[-1]}")
    y: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)
    return y.reshape(*x.shape[:-1], weight.shape[0])


def relu(x: Tensor) -> Tensor:
    """Compute max(x, 0), element by element."""
    return _ReLU.apply(x)


def sigmoid(x: Tensor) -> Tensor:
    """Compute 1 / (1 + exp(−x)), element by element; no x overflows."""
    return _Sigmoid.apply(widen(x)).to(x.dtype)


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute −t log σ(x) − (1 − t) log(1 − σ(x)) for each element, in at least fp32.

    Args:
        logits: (...).
        targets: (...), probabilities.

    Returns:
        (...).
    """
    return _BinaryCrossEntropy.apply(widen(logits), widen(targets))


def softmax_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute −log softmax(x)_t for each row, in at least fp32.

    Args:
        logits: (..., C).
        targets: (...), int64 class indices in [0, C).

    Returns:
        (...).

    Raises:
        ValueError: An index is out of range.
    """
    classes = logits.shape[-1]
    with refusing_unknown_classes(targets, classes):
        losses, _ = _SoftmaxCrossEntropy.apply(logits.reshape(targets.numel(), classes), targets.reshape(-1))
    return losses.reshape(targets.shape)

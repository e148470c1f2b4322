"""A two-layer network whose gradient comes from PyTorch, from our `autograd.Function`s, or from NumPy."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from lit_modules.functional import numpy_network
from lit_modules.functional.backward import linear, relu, softmax_cross_entropy
from lit_modules.functional.numpy_network import Array, Weights
from lit_modules.functional.precision import widen
from lit_modules.layers.building_blocks import building_blocks


class TwoLayerNetwork(nn.Module):
    """logits = W₂ max(W₁ x + b₁, 0) + b₂, and its mean cross-entropy.

    All three implementations have the same weights, initial values and results:

        fused      PyTorch's functions; its autograd finds the gradient
        by_hand    our functions of `functional/backward.py`; each has a backward pass derived by hand
        numpy      `functional/numpy_network.py`; NumPy computes loss and gradient in one function

    Shape letters: B inputs, D values of an input, H hidden units, K classes.

    Args:
        input_shape: Shape of one input.
        num_outputs: K.
        hidden: H.
        implementation: Who computes the loss and the gradient.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_outputs: int,
        hidden: int,
        implementation: Literal["fused", "by_hand", "numpy"] = "fused",
    ) -> None:
        super().__init__()
        self.implementation = implementation
        # These layers hold the weights and choose their initial values.
        layers = building_blocks("fused" if implementation == "fused" else "by_hand")
        self.first = layers.linear(math.prod(input_shape), hidden)
        self.second = layers.linear(hidden, num_outputs)

    def features(self, inputs: Tensor) -> Tensor:
        """Return the hidden activations: (B, …) → (B, H)."""
        x = inputs.flatten(1)
        if self.implementation == "numpy":
            return _like(numpy_network.forward(_array(x), Weights(*map(_array, self._weights())))[0], x)
        if self.implementation == "by_hand":
            return relu(linear(x, self.first.weight, self.first.bias))
        return F.relu(self.first(x))

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the logits: (B, …) → (B, K). In NumPy they have no gradient; `loss` has one."""
        if self.implementation == "numpy":
            x = inputs.flatten(1)
            return _like(numpy_network.forward(_array(x), Weights(*map(_array, self._weights())))[1], x)
        if self.implementation == "by_hand":
            return linear(self.features(inputs), self.second.weight, self.second.bias)
        return self.second(self.features(inputs))

    def loss(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mean cross-entropy () of class indices (B,), and the logits (B, K)."""
        if self.implementation == "numpy":
            return _NumPyLoss.apply(inputs.flatten(1), targets, *self._weights())
        logits = widen(self(inputs))
        if self.implementation == "by_hand":
            return softmax_cross_entropy(logits, targets).mean(), logits
        return F.cross_entropy(logits, targets), logits

    def _weights(self) -> tuple[Tensor, ...]:
        return self.first.weight, self.first.bias, self.second.weight, self.second.bias


class _NumPyLoss(Function):
    """The loss and the logits in NumPy; the backward pass hands NumPy's gradient to the optimizer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, targets: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        loss, logits, gradient = numpy_network.loss_and_gradient(
            _array(x), targets.cpu().numpy(), Weights(*map(_array, weights))
        )
        ctx.gradient = [_like(g, weight) for g, weight in zip(gradient, weights, strict=True)]
        outputs = _like(logits, x)
        ctx.mark_non_differentiable(outputs)
        return _like(loss, widen(x)), outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(grad.to(g.dtype) * g for g in ctx.gradient)


def _array(x: Tensor) -> Array:
    """Return the values as an array, which shares the memory of a CPU tensor; NumPy has no bf16."""
    return widen(x.detach()).cpu().numpy()


def _like(values: Array, x: Tensor) -> Tensor:
    """Return an array as a tensor of the type and device of `x`."""
    return torch.as_tensor(values).to(x)

"""Elementwise activations by hand, and by name."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lit_modules.functional.backward import sigmoid
from lit_modules.functional.precision import widen
from lit_modules.layers.argument_checks import LayerImplementation


def relu(x: Tensor) -> Tensor:
    """Compute max(x, 0), with gradient 0 at 0; NaN stays NaN."""
    return torch.where(x <= 0, torch.zeros_like(x), x)


def gelu(x: Tensor) -> Tensor:
    """Compute x · Φ(x), with Φ the standard normal distribution function (Hendrycks & Gimpel 2016)."""
    wide = widen(x)
    return (0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))).to(x.dtype)


def gelu_tanh(x: Tensor) -> Tensor:
    """Compute the tanh approximation of `gelu`, as in GPT-2."""
    wide = widen(x)
    return (0.5 * wide * (1 + torch.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))).to(x.dtype)


def squared_relu(x: Tensor) -> Tensor:
    """Compute max(x, 0)² (So et al. 2021, "Primer")."""
    return relu(x).square()


def silu(x: Tensor) -> Tensor:
    """Compute x · σ(x), also called Swish (Ramachandran et al. 2017)."""
    wide = widen(x)
    return (wide * torch.sigmoid(wide)).to(x.dtype)


def tanh(x: Tensor) -> Tensor:
    """Compute e / (e + 2) with e = exp(2x) − 1; beyond ±20, where exp could overflow, it is ±1 in fp64."""
    e = torch.expm1(2 * widen(x).clamp(-20, 20))
    return (e / (e + 2)).to(x.dtype)


_BY_HAND: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "gelu": gelu,
    "silu": silu,
    "sigmoid": sigmoid,
    "tanh": tanh,
}
_FUSED: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


class Activation(nn.Module):
    """An activation function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function to each entry."""
        return self.function(x)


def make_activation(name: str, implementation: LayerImplementation = "fused") -> nn.Module:
    """Build an activation; PyTorch's ReLU works in place.

    Args:
        name: `"relu"`, `"gelu"`, `"silu"`, `"sigmoid"` or `"tanh"`.
        implementation: PyTorch's module, or the function of this file.

    Returns:
        The module; it keeps the shape of its input.

    Raises:
        ValueError: Unknown name.
    """
    if name not in _BY_HAND:
        raise ValueError(f"activation is {name!r}, expected one of {', '.join(map(repr, _BY_HAND))}")
    return _FUSED[name]() if implementation == "fused" else Activation(_BY_HAND[name])

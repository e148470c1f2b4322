"""Elementwise activations by name."""

from torch import nn


def make_activation(name: str) -> nn.Module:
    """Make the activation of that name; it works in place where its gradient needs only its output or input.

    Args:
        name: `"relu"`, `"gelu"` or `"silu"`.

    Raises:
        ValueError: There is no such activation.
    """
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "gelu":
        return nn.GELU()
    if name == "silu":
        return nn.SiLU()
    raise ValueError(f"activation is {name!r}, expected 'relu', 'gelu' or 'silu'")

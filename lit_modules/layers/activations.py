"""Elementwise activations by name."""

from torch import nn


def make_activation(name: str) -> nn.Module:
    """Build an activation; ReLU works in place.

    Args:
        name: `"relu"`, `"gelu"` or `"silu"`.

    Returns:
        The module; it keeps the shape of its input.

    Raises:
        ValueError: Unknown name.
    """
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "gelu":
        return nn.GELU()
    if name == "silu":
        return nn.SiLU()
    raise ValueError(f"activation is {name!r}, expected 'relu', 'gelu' or 'silu'")

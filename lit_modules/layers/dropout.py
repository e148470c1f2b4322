"""Dropout that is fast on a CPU, where PyTorch draws one random number for each entry."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

_LEVELS = 2**16


class Dropout(nn.Dropout):
    """In training y = x ⊙ m / (1 − p) with entries of m that are 0 with probability p, else 1; else y = x.

    On accelerators this is PyTorch's dropout. On a CPU each 64-bit random number serves four entries, with 16
    bits for each. So p is rounded to a multiple of 2⁻¹⁶ in both mask and scale, and the mean of y is still x.
    Random numbers come from the default generator.

    Args:
        p: Probability of dropping an entry.

    Raises:
        ValueError: `p` outside [0, 1].

    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries; shape and dtype stay the same."""
        if not self.training or self.p == 0:
            return x
        dropped = round(self.p * _LEVELS)
        slow = x.device.type == "cpu" and not torch.compiler.is_compiling()
        if not slow or dropped in (0, _LEVELS):
            return F.dropout(x, self.p)
        numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = numbers.view(torch.int16)[: x.numel()].view(x.shape)  # uniform over −2¹⁵ … 2¹⁵ − 1
        mask = (bits >= dropped - _LEVELS // 2).to(x.dtype)
        return x * mask.mul_(_LEVELS / (_LEVELS - dropped))


def dropout(x: Tensor, p: float) -> Tensor:
    """Compute y = x ⊙ m / (1 − p) with one random number for each entry.

    On a CPU the result is bit for bit that of `F.dropout` with the same seed.

    Args:
        x: Any shape.
        p: Probability of dropping an entry.

    Returns:
        y, in the shape and dtype of x.
    """
    if p == 0:
        return x
    mask = torch.empty_like(x).bernoulli_(1 - p)
    return x * (mask / (1 - p) if p < 1 else mask)


class ElementDropout(nn.Dropout):
    """`dropout` as a layer; it changes nothing in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries; shape and dtype stay the same."""
        return dropout(x, self.p) if self.training else x

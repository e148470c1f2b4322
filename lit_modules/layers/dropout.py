"""Dropout that is quick on a CPU too, where PyTorch draws each entry's fate as a number of its own."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

_LEVELS = 2**16


class Dropout(nn.Dropout):
    """y = x ⊙ m / (1 − p) in training, each entry of m being 0 with probability p, else 1; else y = x.

    It is PyTorch's, except on a CPU: there one 64-bit random number decides over four entries, with 16 bits
    for each. So p is rounded to a multiple of 2⁻¹⁶, in the mask and in the scale alike, and the mean of y
    stays x. Like PyTorch's it draws from the default generator.

    Args:
        p: Probability that an entry is dropped.

    Raises:
        ValueError: `p` outside [0, 1].

    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps shape and type."""
        dropped = round(self.p * _LEVELS)
        slow = x.device.type == "cpu" and not torch.compiler.is_compiling()
        if not self.training or not slow or dropped in (0, _LEVELS):
            return F.dropout(x, self.p, self.training)
        numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = numbers.view(torch.int16)[: x.numel()].view(x.shape)  # uniform over −2¹⁵ … 2¹⁵ − 1
        mask = (bits >= dropped - _LEVELS // 2).to(x.dtype)
        return x * mask.mul_(_LEVELS / (_LEVELS - dropped))

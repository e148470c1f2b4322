"""A linear layer whose weights are kept in 8 bits, one scale for each output: half of bf16's memory traffic.

Shape letters: I inputs, O outputs.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from lit_modules.functional.precision import widen
from lit_modules.layers.argument_checks import LayerImplementation, check_choice

_FEW_ROWS = 16  # up to here the kernel that reads 8 bits beats a product with weights widened first
_VECTOR = 32


class Int8Linear(nn.Module):
    """y = scale ⊙ (x Qᵀ) + bias, with Q the weights as whole numbers of −127 … 127.

    Only the weights are rounded, inputs and outputs keep their precision ("weight-only"). The scale of output
    o is max_i |W_oi| / 127, so that each weight is off by at most half a step of its own row. For inference.

    Args:
        weight: (O, I), to be rounded.
        bias: (O,).
        dtype: Of the scale, and of what comes in and goes out.
        implementation: `fused` reads Q as it is where PyTorch has a kernel for that, bf16 on CPUs, and there
            are few rows; else Q is widened. `by_hand` is the formula.

    Source: Dettmers et al. 2022, "LLM.int8()", section 2.1 (row-wise scales).
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        dtype: torch.dtype = torch.bfloat16,
        implementation: LayerImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("implementation", implementation, LayerImplementation)
        self.implementation = implementation
        quantised, scale = quantise_int8(weight.detach(), dtype=dtype)
        self.register_buffer("weight", quantised)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) → (…, O), in the scale's type."""
        if self.implementation == "fused":
            return int8_linear(x, self.weight, self.scale, self.bias)
        wide = widen(x)
        y = (wide @ self.weight.to(wide.dtype).T) * self.scale
        return (y if self.bias is None else y + self.bias).to(x.dtype)


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """The fused product of `Int8Linear`.

    Args:
        x: (…, I), of the scale's type.
        weight: int8 (O, I).
        scale: (O,).
        bias: (O,).

    Returns:
        (…, O).
    """
    inputs = x.shape[-1]
    few = x.numel() <= _FEW_ROWS * inputs
    # The kernel has no end for a row that isn't whole vectors: it reads on.
    if few and inputs % _VECTOR == 0 and x.dtype == torch.bfloat16 and x.device.type == "cpu":
        y = torch._weight_int8pack_mm(x if x.dim() == 2 else x.reshape(-1, inputs), weight, scale)
        y = y if x.dim() == 2 else y.view(*x.shape[:-1], -1)
    else:
        y = F.linear(x, weight.to(x.dtype)) * scale
    return y if bias is None else y + bias


def quantise_int8(weight: Tensor, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Rounds each row of a matrix to multiples of its own scale.

    The scale is rounded to its type first and the weights to multiples of that, so a coarse type costs a
    little of the range and no precision.

    Args:
        weight: (O, I).
        dtype: Of the scale.

    Returns:
        int8 (O, I) in −127 … 127, and the scale (O,): their product, row by row, is near `weight`.

    Raises:
        ValueError: `weight` isn't a matrix, or not finite.
    """
    if weight.dim() != 2:
        raise ValueError(f"expected a matrix, got {tuple(weight.shape)}")
    wide = widen(weight)
    if not bool(wide.isfinite().all()):
        raise ValueError("weights that are infinite or no numbers can't be rounded to 8 bits")
    scale = (wide.abs().amax(dim=1) / 127).to(dtype)  # (O,)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    quantised = (wide / scale.to(wide.dtype).unsqueeze(1)).round().clamp(-127, 127)
    return quantised.to(torch.int8), scale

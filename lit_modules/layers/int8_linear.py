"""A linear layer with 8-bit weights and one scale for each output: half the memory traffic of bf16.

Shape letters: I inputs, O outputs.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from lit_modules.functional.precision import widen
from lit_modules.layers.argument_checks import LayerImplementation, check_choice

_FEW_ROWS = 16  # up to this number the 8-bit kernel is faster than a product with converted weights
_VECTOR = 32


class Int8Linear(nn.Module):
    """y = scale ⊙ (x Qᵀ) + bias, with Q the weights as integers from −127 to 127.

    Only the weights are quantised; inputs and outputs keep their precision ("weight-only"). The scale of
    output o is max_i |W_oi| / 127, so the error of a weight is at most half the scale of its row. For
    inference only.

    Args:
        weight: The weights to quantise, (O, I).
        bias: (O,).
        dtype: Type of scale, inputs and outputs.
        implementation: `fused` uses PyTorch's 8-bit kernel where there is one (bf16 on CPUs) for few rows,
            and else converts Q. `by_hand` is the formula.

    Raises:
        ValueError: Weights that aren't a finite matrix; unknown implementation.

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
        """Map (…, I) to (…, O), in the type of the scale."""
        if self.implementation == "fused":
            return int8_linear(x, self.weight, self.scale, self.bias)
        wide = widen(x)
        y = (wide @ self.weight.to(wide.dtype).T) * self.scale
        return (y if self.bias is None else y + self.bias).to(x.dtype)


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute the fused product of `Int8Linear`.

    Args:
        x: (…, I), in the type of the scale.
        weight: int8 (O, I).
        scale: (O,).
        bias: (O,).

    Returns:
        (…, O).
    """
    inputs = x.shape[-1]
    few = x.numel() <= _FEW_ROWS * inputs
    # The kernel reads beyond the end of a row that isn't a whole number of vectors.
    if few and inputs % _VECTOR == 0 and x.dtype == torch.bfloat16 and x.device.type == "cpu":
        y = torch._weight_int8pack_mm(x if x.dim() == 2 else x.reshape(-1, inputs), weight, scale)
        y = y if x.dim() == 2 else y.view(*x.shape[:-1], -1)
    else:
        y = F.linear(x, weight.to(x.dtype)) * scale
    return y if bias is None else y + bias


def quantise_int8(weight: Tensor, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Round each row of a matrix to multiples of its own scale.

    The scale is rounded to `dtype` before the weights are rounded to its multiples. So a coarse type reduces
    the range a little, but not the precision.

    Args:
        weight: (O, I).
        dtype: Type of the scale.

    Returns:
        int8 values, (O, I), from −127 to 127; and the scales, (O,). Their product approximates `weight`.

    Raises:
        ValueError: `weight` isn't a matrix, or isn't finite.
    """
    if weight.dim() != 2:
        raise ValueError(f"expected a matrix, got {tuple(weight.shape)}")
    wide = widen(weight)
    if not bool(wide.isfinite().all()):
        raise ValueError("weights contain infinity or NaN, which can't be quantised to 8 bits")
    scale = (wide.abs().amax(dim=1) / 127).to(dtype)  # (O,)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    quantised = (wide / scale.to(wide.dtype).unsqueeze(1)).round().clamp(-127, 127)
    return quantised.to(torch.int8), scale

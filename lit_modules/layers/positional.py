"""Sinusoidal, learned and rotary position encodings, called with the positions of the tokens.

Positions are integers, (T,) for all rows or (B, T), which covers offsets (`torch.arange(offset, offset +
T)`), left padding and rows of different lengths.

Shape letters: B batch, T tokens, W width of the model, H heads, D width of a head.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.configs.transformer import AttentionImplementation, RotaryLayout, RotaryScalingConfig
from lit_modules.functional.precision import widen
from lit_modules.layers.argument_checks import check_choice
from lit_modules.layers.building_blocks import building_blocks
from lit_modules.layers.rotary_scaling import attention_factor, scale_frequencies

HeadOrder = Literal["BHTD", "BTHD"]


class SinusoidalPositions(nn.Module):
    """PE[p, 2i] = sin(p / base^(2i/W)),  PE[p, 2i+1] = cos(p / base^(2i/W)); no parameters, any position.

    An odd width ends with a sine without a cosine.

    Args:
        width: W.
        base: Wavelengths range from 2π to 2π · base.

    Raises:
        ValueError: A width below 1; a base that isn't positive.

    Source: Vaswani et al. 2017, "Attention is all you need", section 3.5.
    """

    def __init__(self, width: int, *, base: float = 10_000.0) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}, expected at least 1")
        _check_base(base)
        self.width = width
        self.base = base

    def forward(self, positions: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the encodings of positions.

        Args:
            positions: (T,) or (B, T).
            dtype: Type of the result.

        Returns:
            (T, W) or (B, T, W).
        """
        angles = _angles(positions, _frequencies(positions, self.width, self.base))  # ([B,] T, ⌈W/2⌉)
        pairs = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)  # ([B,] T, W or W + 1)
        return pairs[..., : self.width].to(dtype)


class LearnedPositions(nn.Module):
    """One learned vector for each position, as in GPT-2 (Radford et al. 2019) and BERT.

    Args:
        max_length: Number of positions, from 0 to max_length − 1.
        width: W.
        implementation: See `building_blocks`.
    """

    def __init__(
        self, max_length: int, width: int, *, implementation: AttentionImplementation = "fused"
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.table = building_blocks(implementation).embedding(max_length, width)

    def forward(self, positions: Tensor) -> Tensor:
        """Return the encodings of positions: (T,) → (T, W), (B, T) → (B, T, W).

        Raises:
            ValueError: A position outside the table.
        """
        # Only on a CPU, because reading a value stalls an accelerator, which has its own check.
        if positions.device.type == "cpu" and positions.numel():
            lowest, highest = (int(p) for p in positions.aminmax())
            if lowest < 0 or highest >= self.max_length:
                raise ValueError(
                    f"positions {lowest} … {highest} exceed the {self.max_length} learned positions"
                )
        return self.table(positions)


class RotaryPositions(nn.Module):
    """Rotate each pair of channels of queries and keys by an angle proportional to the position.

        (a, b) → (a cos θ − b sin θ, b cos θ + a sin θ),   θ = p / base^(2i/D) for pair i

    The dot product of a query at p and a key at q then depends on p − q only. The layout defines the pairs:

        half_split      channels i and i + D/2     Hugging Face's Llama
        adjacent_pairs  channels 2i and 2i + 1     the paper, GGUF

    The layouts differ by a permutation of the rows of W_q and W_k. Weights trained with one don't work with
    the other.

    Args:
        head_dim: D, even.
        base: Wavelengths range from 2π to 2π · base.
        layout: Which channels form a pair.
        scaling: How rotations are slowed down for longer texts; not at all by default.

    Raises:
        ValueError: An odd head width; a base that isn't positive; unknown layout.

    Source: Su et al. 2021, "RoFormer", eq. 34.
    """

    def __init__(
        self,
        head_dim: int,
        *,
        base: float = 10_000.0,
        layout: RotaryLayout = "half_split",
        scaling: RotaryScalingConfig | None = None,
    ) -> None:
        super().__init__()
        if head_dim < 2 or head_dim % 2:
            raise ValueError(f"rotary positions rotate pairs of channels: head width {head_dim} isn't even")
        _check_base(base)
        check_choice("layout", layout, RotaryLayout)
        self.head_dim = head_dim
        self.base = base
        self.layout: RotaryLayout = layout
        self.scaling = RotaryScalingConfig() if scaling is None else scaling

    def forward(self, positions: Tensor, *, dtype: torch.dtype = torch.float32) -> "Rotation":
        """Compute the rotation once for the queries and keys of all layers.

        Args:
            positions: (T,), or (B, T) if rows of the batch differ.
            dtype: Type of the queries; half precision is rotated in fp32 and rounded once.

        Returns:
            The rotation of these positions.
        """
        frequencies = _frequencies(positions, self.head_dim, self.base)  # (D/2,)
        if self.scaling.kind != "none":
            frequencies = scale_frequencies(frequencies, self.scaling, base=self.base)
        angles = _angles(positions, frequencies)  # ([B,] T, D/2)
        dtype = torch.promote_types(dtype, torch.float32)
        cos, sin = angles.cos(), angles.sin()
        if (factor := attention_factor(self.scaling)) != 1:
            cos, sin = cos * factor, sin * factor
        return Rotation(cos=cos.to(dtype), sin=sin.to(dtype), layout=self.layout)


@dataclass(kw_only=True)  # not frozen: torch 2.11 cannot compile a frozen one
class Rotation:
    """The rotation of T positions, as `cos` and `sin` of the angles, (T, D/2) or (B, T, D/2)."""

    cos: Tensor
    sin: Tensor
    layout: RotaryLayout

    def __call__(self, x: Tensor, *, order: HeadOrder) -> Tensor:
        """Rotate queries or keys.

        Args:
            x: (B, H, T, D) or (B, T, H, D).
            order: Order of the dimensions. It has no default, because the shape is ambiguous if H = T.

        Returns:
            The rotated `x`, with the same shape and type.

        Raises:
            ValueError: `x` has another T, D or B.
        """
        check_choice("order", order, HeadOrder)
        if x.dim() != 4:
            raise ValueError(f"expected 4-D heads in the order {order}, got {tuple(x.shape)}")
        length, half = self.cos.shape[-2:]
        time = order.index("T")
        if x.shape[time] != length:
            raise ValueError(
                f"{tuple(x.shape)} in the order {order} has {x.shape[time]} tokens, the rotation has {length}"
            )
        if x.shape[-1] != 2 * half:
            raise ValueError(f"head width is {x.shape[-1]}, the rotation is for {2 * half}")
        cos, sin = self.cos, self.sin
        if cos.dim() == 3:
            if x.shape[0] != cos.shape[0]:
                raise ValueError(f"x has {x.shape[0]} rows, but the rotation has {cos.shape[0]}")
            cos, sin = cos.unsqueeze(3 - time), sin.unsqueeze(3 - time)  # (B, 1, T, D/2) or (B, T, 1, D/2)
        elif order == "BTHD":
            cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)  # (T, 1, D/2)

        wide = widen(x)
        if self.layout == "half_split":
            a, b = wide.chunk(2, dim=-1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)
        a, b = wide.unflatten(-1, (half, 2)).unbind(-1)
        return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2).to(x.dtype)


def _frequencies(positions: Tensor, width: int, base: float) -> Tensor:
    """Compute 1 / base^(2i/width) for each pair i: (⌈width/2⌉,).

    It uses fp64 where possible, because an fp32 angle of 10⁵ has an error of up to 0.004.
    """
    wide = torch.float32 if positions.device.type == "mps" else torch.float64
    exponents = torch.arange(0, width, 2, device=positions.device, dtype=wide) / width
    return base**-exponents


def _angles(positions: Tensor, frequencies: Tensor) -> Tensor:
    """Multiply each position by each frequency: (…, T) → (…, T, pairs)."""
    return positions.to(frequencies.dtype).unsqueeze(-1) * frequencies


def _check_base(base: float) -> None:
    if base <= 0:
        raise ValueError(f"base is {base}, expected a value above 0")

"""Rotary frequencies for texts longer than those of the first training.

A channel pair i turns by θ_i per token, so its wavelength is 2π / θ_i tokens. In training, pairs with a long
wavelength never make a whole turn. There are three ways to slow pairs down by a factor s:

    linear   θ_i / s for all pairs (Chen et al. 2023, "Extending context window by positional interpolation")
    llama3   θ_i / s for long wavelengths, θ_i for short ones, a blend between (Llama 3.1)
    yarn     a blend by the number of turns in the old context, and cos, sin × attention_factor (Peng et al.
             2023, "YaRN", section 3.2 and eq. 22)
"""

import math

import torch
from torch import Tensor

from lit_modules.configs.transformer import RotaryScalingConfig


def scale_frequencies(frequencies: Tensor, scaling: RotaryScalingConfig, *, base: float) -> Tensor:
    """Scale the frequencies θ (D/2,) of rotary positions with this base."""
    stretched = frequencies / scaling.factor
    match scaling.kind:
        case "none":
            return frequencies
        case "linear":
            return stretched
        case "llama3":
            turns = scaling.original_length * frequencies / (2 * math.pi)  # of the old context
            kept = (turns - scaling.low_turns) / (scaling.high_turns - scaling.low_turns)
        case "yarn":
            kept = 1 - _yarn_ramp(frequencies, scaling, base)
    return torch.lerp(stretched, frequencies, kept.clamp(0, 1))


def attention_factor(scaling: RotaryScalingConfig) -> float:
    """Return the factor of cos and sin, whose square multiplies the attention scores."""
    if scaling.kind != "yarn":
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    return 0.1 * math.log(scaling.factor) + 1 if scaling.factor > 1 else 1.0


def _yarn_ramp(frequencies: Tensor, scaling: RotaryScalingConfig, base: float) -> Tensor:
    """Rise from 0 at the pair with `high_turns` in the old context to 1 at the pair with `low_turns`."""
    half = len(frequencies)

    def pair(turns: float) -> float:
        return half * math.log(scaling.original_length / (2 * math.pi * turns)) / math.log(base)

    low, high = pair(scaling.high_turns), pair(scaling.low_turns)
    if scaling.whole_pairs:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * half - 1)
    pairs = torch.arange(half, device=frequencies.device, dtype=frequencies.dtype)
    return ((pairs - low) / max(high - low, 0.001)).clamp(0, 1)

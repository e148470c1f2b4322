"""What a calculation is carried out in, and what its result is returned in."""

import torch
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """`x` in the type that sums and exponentials are computed in: fp32 for half precision, else its own.

    Args:
        x: Any floating-point tensor.

    Raises:
        ValueError: `x` isn't floating-point.
    """
    if not x.is_floating_point():
        raise ValueError(f"expected a floating-point tensor, got {x.dtype}")
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def result_dtype(x: Tensor) -> torch.dtype:
    """The type of a softmax or a loss of `x`: its own, but at least fp32 in autocast, as PyTorch has it."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.promote_types(x.dtype, torch.float32)
    return x.dtype

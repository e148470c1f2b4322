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


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 matrices faster than fp32: GPUs, CPUs with AMX or AVX512-BF16."""
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)

"""Number types of computations and of their results."""

import torch
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """Convert half precision to fp32; return other floating-point tensors unchanged.

    Sums and exponentials are computed in this type.

    Raises:
        ValueError: `x` is not floating-point.
    """
    if not x.is_floating_point():
        raise ValueError(f"expected a floating-point tensor, got {x.dtype}")
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def result_dtype(x: Tensor) -> torch.dtype:
    """Return the type for a softmax or loss of `x`: its own, but at least fp32 in autocast, as in PyTorch."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.promote_types(x.dtype, torch.float32)
    return x.dtype


def multiplies_bf16(device: torch.device) -> bool:
    """Tell whether the device multiplies bf16 faster than fp32: GPUs, and CPUs with AMX or AVX512-BF16."""
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)

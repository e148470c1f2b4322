"""Triton's compiler accepts the kernels for the GPUs that they are for; no GPU is needed for that."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_modules.layers import triton_attention

pytest.importorskip("triton")

SHARED_MEMORY = 99 * 1024  # what a program may use on an RTX 3090 or 4090; an H100 has 227 KB
FP32 = ("lse", "delta", "grad_lse")
CAUSAL = {"IS_CAUSAL": True, "HAS_WINDOW": False, "MASK": "none"}
EVERYTHING_ELSE = {"IS_CAUSAL": False, "HAS_WINDOW": True, "MASK": "full"}


def compile_kernel(
    name: str, dtype: torch.dtype, width: int, rules: dict[str, Any], *, capability: int, ones: bool = False
) -> Any:
    """Compile a kernel as its first call would; `ones`: all counts are 1, which Triton makes constants."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from lit_modules.layers import attention_kernels

    kernel = getattr(attention_kernels, f"{name}_kernel")
    tensor = torch.empty(1, 1, 1, width, dtype=dtype)
    launch = triton_attention._launch(triton_attention._tiles(name, tensor, tensor))
    padded = triton_attention._padded(width)
    constants = {"D": width, "D_V": width, "D_PAD": padded, "D_V_PAD": padded, **rules}
    constants |= {key: launch[key] for key in ("BLOCK_T", "BLOCK_S")}
    if ones:
        constants |= dict.fromkeys(("heads", "group", "num_queries"), 1)
    number = {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
    sizes = ("_b", "_h", "_t", "_s", "heads", "group", "queries", "keys", "window")
    signature = {
        argument: "i32" if argument.endswith(sizes) else "*fp32" if argument in FP32 else f"*{number}"
        for argument in kernel.arg_names
    }
    signature |= {"mask": "*u8", "scale": "fp32", **dict.fromkeys(constants, "constexpr")}
    places = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
    options = {key: launch[key] for key in ("num_warps", "num_stages")}
    return compile(
        ASTSource(kernel, signature, places), target=GPUTarget("cuda", capability, 32), options=options
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forward", "query_gradient", "key_value_gradient"])
def test_kernels_compile_and_fit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for rules, ones in ((CAUSAL, False), (EVERYTHING_ELSE, True)):
        kernel = compile_kernel(name, torch.bfloat16, 64, rules, capability=90, ones=ones)
        assert "wgmma" in kernel.asm["ptx"]  # the tensor cores of an H100
    kernel = compile_kernel(name, torch.float32, 128, CAUSAL, capability=86)
    assert kernel.metadata.shared <= SHARED_MEMORY

from pathlib import Path

import pytest
import torch

from lit_modules.functional.precision import multiplies_bf16, result_dtype, widen


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_widens_only_half_precision(given: torch.dtype, computed: torch.dtype) -> None:
    x = torch.tensor([1.0, -2.5], dtype=given)
    assert widen(x).dtype == computed
    assert widen(x).tolist() == [1.0, -2.5]


def test_refuses_integers() -> None:
    with pytest.raises(ValueError, match="int64"):
        widen(torch.tensor([1, 2]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_result_dtype_is_that_of_pytorchs_loss_in_and_out_of_autocast(dtype: torch.dtype) -> None:
    x, targets = torch.zeros(2, 3, dtype=dtype), torch.tensor([0, 1])
    assert result_dtype(x) == torch.nn.functional.cross_entropy(x, targets).dtype
    with torch.autocast("cpu", torch.bfloat16):
        theirs = torch.nn.functional.cross_entropy(x, targets).dtype
        # PyTorch's autocast takes fp64 down to fp32; we keep its digits
        assert result_dtype(x) == (dtype if dtype == torch.float64 else theirs)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux lists what its CPU can do")
def test_fast_bf16_agrees_with_linux_cpu_flags() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    assert multiplies_bf16(torch.device("cpu")) == ("avx512_bf16" in flags or "amx_bf16" in flags)


def test_unknown_devices_have_no_fast_bf16() -> None:
    assert not multiplies_bf16(torch.device("meta"))

import pytest
import torch
import torch.nn.functional as F

from lit_modules.layers.fast_linear import fast_linear


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3, 70])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (7, 5), (64, 33), (576, 960)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_linear_layers_product(
    dtype: torch.dtype, rows: int, inputs: int, outputs: int, bias: bool
):
    generator = torch.Generator().manual_seed(0)
    x, weight, shift = (
        torch.randn(*shape, generator=generator).to(dtype)
        for shape in ((rows, inputs), (outputs, inputs), (outputs,))
    )
    product = fast_linear(weight, shift if bias else None)
    expected = F.linear(x.double(), weight.double(), shift.double() if bias else None)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.01}[dtype] * inputs**0.5
    for given in (x, x.T.contiguous().T, x.repeat_interleave(2, dim=0)[::2]):
        y = product(given)
        assert y.dtype == dtype
        torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)


def test_fp32_on_a_cpu_leaves_mkl_where_there_is_another(monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr(F, "linear", lambda *args, **kwargs: calls.append(kwargs))
    fast_linear(torch.ones(2, 3))(torch.ones(1, 3))
    assert len(calls) == (not hasattr(torch.ops.mkldnn, "_linear_pointwise"))
    fast_linear(torch.ones(2, 3, dtype=torch.float64))(torch.ones(1, 3, dtype=torch.float64))
    assert calls[-1]["weight"].dtype == torch.float64


def test_a_trained_weight_is_taken_without_its_gradient():
    weight = torch.ones(2, 3, requires_grad=True)
    assert not fast_linear(weight, torch.ones(2, requires_grad=True))(torch.ones(1, 3)).requires_grad

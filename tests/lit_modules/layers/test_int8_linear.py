import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.layers.int8_linear import Int8Linear, quantise_int8


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_weight_is_off_by_at_most_half_a_step_of_its_row(dtype: torch.dtype):
    weight = normal(40, 24) * torch.logspace(-3, 3, 40).unsqueeze(1)
    quantised, scale = quantise_int8(weight, dtype=dtype)
    assert (quantised.dtype, scale.dtype) == (torch.int8, dtype)
    assert int(quantised.abs().max()) == 127
    error = (quantised * scale.float().unsqueeze(1) - weight).abs()
    # A scale that was rounded down can't reach the row's largest weight: 2⁻⁹ of 127 steps in bf16.
    reach = 0.25 if dtype == torch.bfloat16 else 0.05
    assert bool((error <= (0.5 + reach) * scale.float().unsqueeze(1)).all())
    assert bool((error.flatten().sort().values[:900] <= 0.5001 * scale.float().max()).all())


def test_rows_of_zeros_and_weights_on_the_grid_come_back_exactly():
    weight = torch.randint(-127, 128, (6, 10), generator=torch.Generator().manual_seed(1)) * 0.25
    weight[:, 0] = 127 * 0.25
    weight[2] = 0
    layer = Int8Linear(weight, dtype=torch.float32)
    torch.testing.assert_close(layer(torch.eye(10)).T, weight, rtol=0, atol=0)


@pytest.mark.parametrize("inputs", [1, 7, 64, 576])
@pytest.mark.parametrize("outputs", [1, 5, 96])
@pytest.mark.parametrize("rows", [(1,), (3,), (2, 5), (40,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_equals_by_hand_equals_the_rounded_matrix(
    inputs: int, outputs: int, rows: tuple[int, ...], dtype: torch.dtype
):
    weight, bias, x = (
        normal(outputs, inputs),
        normal(outputs, seed=1),
        normal(*rows, inputs, seed=2).to(dtype),
    )
    layers = [Int8Linear(weight, bias, dtype=dtype, implementation=kind) for kind in ("fused", "by_hand")]
    quantised, scale = quantise_int8(weight, dtype=dtype)
    expected = F.linear(x.double(), quantised.double() * scale.double().unsqueeze(1), bias.to(dtype).double())
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for layer in layers:
        y = layer(x)
        assert (y.shape, y.dtype) == ((*rows, outputs), dtype)
        torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance * inputs**0.5)


def test_inputs_need_not_be_contiguous():
    layer, x = Int8Linear(normal(8, 6)), normal(4, 6, 3).bfloat16().transpose(1, 2)
    torch.testing.assert_close(layer(x), layer(x.contiguous()), rtol=0, atol=0)
    torch.testing.assert_close(layer(x[:, ::2]), layer(x)[:, ::2], rtol=1e-2, atol=1e-2)


def test_it_moves_and_is_saved_as_8_bits():
    layer = Int8Linear(normal(8, 6), normal(8))
    assert {name: t.dtype for name, t in layer.state_dict().items()} == {
        "weight": torch.int8,
        "scale": torch.bfloat16,
        "bias": torch.bfloat16,
    }
    other = Int8Linear(normal(8, 6, seed=3), normal(8, seed=4))
    other.load_state_dict(layer.state_dict())
    x = normal(2, 6).bfloat16()
    torch.testing.assert_close(other(x), layer(x), rtol=0, atol=0)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_weights_that_are_no_numbers_are_refused(value: float):
    weight = normal(3, 4)
    weight[1, 2] = value
    with pytest.raises(ValueError, match="infinity or NaN"):
        Int8Linear(weight)


def test_what_is_not_a_matrix_is_refused():
    with pytest.raises(ValueError, match=r"expected a matrix, got \(3,\)"):
        quantise_int8(torch.ones(3))

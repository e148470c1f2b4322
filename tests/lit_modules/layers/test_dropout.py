"""Oracle: `nn.Dropout`, and the binomial distribution."""

import math

import pytest
import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.layers.dropout import Dropout, ElementDropout


def dropped(p: float, x: Tensor, seed: int = 0) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Dropout(p)(x)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_entries_are_dropped_independently_at_the_rate_asked_for(p: float):
    y = dropped(p, torch.ones(400_001))
    zeros = (y == 0).double()
    sigma = math.sqrt(p * (1 - p) / len(y))
    assert abs(float(zeros.mean()) - p) < 4 * sigma + 2**-16
    for lag in (1, 2, 3, 4, 64):  # the four entries of one random number, and those of its neighbours
        both = float((zeros[lag:] * zeros[:-lag]).mean())
        assert abs(both - p * p) < 6 * sigma * p + 4 * p * 2**-16


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (0, 3), (3, 5, 7)])
def test_the_rest_is_scaled_as_pytorch_does(dtype: torch.dtype, shape: tuple[int, ...]):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    y = dropped(0.25, x)  # a multiple of 2⁻¹⁶, so that the scale is exact
    assert y.shape == x.shape
    assert y.dtype == dtype
    kept = y != 0
    torch.testing.assert_close(y[kept], nn.functional.dropout(x, 0.0)[kept] / 0.75)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, kept.to(dtype) / 0.75)


def test_the_mean_is_kept_though_the_rate_is_rounded():
    """0.1 · 2¹⁶ isn't whole: the scale is that of the rate that is drawn."""
    y = dropped(0.1, torch.ones(50, dtype=torch.float64))
    assert float(y.max()) == 2**16 / (2**16 - 6554)


def test_transposed_input_and_its_own_draw_at_each_call():
    x = torch.ones(64, 32).t()
    first, second = dropped(0.5, x), dropped(0.5, x)
    assert torch.equal(first, second)
    assert not torch.equal(first, dropped(0.5, x, seed=1))
    assert not torch.equal(*(Dropout(0.5)(x) for _ in range(2)))


@pytest.mark.parametrize("p", [0.0, 1e-9, 1 - 1e-9, 1.0])
def test_rates_that_leave_no_choice(p: float):
    torch.testing.assert_close(dropped(p, torch.ones(9)), torch.full((9,), 1.0 - round(p)))


def test_evaluation_changes_nothing_and_draws_nothing():
    x, before = torch.randn(5), torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_another_device_takes_pytorchs():
    assert Dropout(0.5)(torch.ones(3, device="meta")).device.type == "meta"


def test_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(1.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_by_hand_it_is_pytorchs_bit_for_bit(p: float, dtype: torch.dtype):
    x = torch.randn(5, 40).to(dtype)
    results = []
    for layer in (nn.Dropout(p), ElementDropout(p)):
        torch.manual_seed(3)
        results += [layer(x), layer.eval()(x)]
    assert torch.equal(results[2], results[0])
    assert torch.equal(results[3], x)

"""The norms' derivations against finite differences and PyTorch, and on hard inputs."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.functional.normalization import layer_norm, rms_norm

Check = Callable[..., None]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def our_layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return layer_norm(x, weight.shape, weight, bias)


def their_layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, weight.shape, weight, bias)


def our_rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return rms_norm(x, weight.shape, weight)


def their_rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, eps=1e-6)


Function = Callable[..., Tensor]
# ours, PyTorch's, and a draw of inputs
CASES: dict[str, tuple[Function, Function, Callable[[int], list[Tensor]]]] = {
    "layer norm": (
        our_layer_norm,
        their_layer_norm,
        lambda seed: [normal(6, 9, seed=seed), normal(9, seed=seed + 100), normal(9, seed=seed + 200)],
    ),
    "layer norm over two dims": (
        our_layer_norm,
        their_layer_norm,
        lambda seed: [normal(2, 3, 4, seed=seed), normal(3, 4, seed=seed + 1), normal(3, 4, seed=seed + 2)],
    ),
    "rms norm": (
        our_rms_norm,
        their_rms_norm,
        lambda seed: [normal(6, 9, seed=seed), normal(9, seed=seed + 100)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_pytorch_and_finite_differences(name: str, assert_derivatives: Check) -> None:
    assert_derivatives(*CASES[name])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scale", [1e-4, 1, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_as_accurate_as_pytorch_at_every_scale(
    name: str, scale: float, dtype: torch.dtype, assert_as_accurate: Check
) -> None:
    ours, theirs, draw = CASES[name]
    assert_as_accurate(ours, theirs, lambda seed: [scale * draw(seed)[0], *draw(seed)[1:]], dtype)


@pytest.mark.parametrize("name", CASES)
def test_takes_an_empty_batch(name: str, assert_equal_in_fp64: Check) -> None:
    ours, theirs, draw = CASES[name]
    x, *parameters = draw(3)
    assert_equal_in_fp64(ours, theirs, x[:0], *parameters)


def test_norms_without_weight_and_bias(assert_equal_in_fp64: Check) -> None:
    x = normal(4, 7)
    assert_equal_in_fp64(lambda x: layer_norm(x, [7]), lambda x: F.layer_norm(x, [7]), x)
    assert_equal_in_fp64(lambda x: rms_norm(x, [7], eps=1e-3), lambda x: F.rms_norm(x, [7], eps=1e-3), x)
    assert_equal_in_fp64(lambda x: layer_norm(x, [7], eps=1e-3), lambda x: F.layer_norm(x, [7], eps=1e-3), x)


def test_norms_of_constant_and_single_features(assert_equal_in_fp64: Check) -> None:
    for x in (torch.full((2, 5), 3.0), torch.zeros(2, 5), normal(4, 1)):
        shape = x.shape[1:]
        assert_equal_in_fp64(
            lambda x, s=shape: rms_norm(x, s), lambda x, s=shape: F.rms_norm(x, s, eps=1e-6), x
        )
        y = layer_norm(x, shape)
        torch.testing.assert_close(y, torch.zeros_like(y), rtol=0, atol=1e-12)


def test_norms_of_half_precision_give_fp32_parameters_fp32_gradients() -> None:
    x = normal(300, 4).bfloat16()
    weight, bias = torch.ones(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    upstream = normal(300, 4, seed=1).bfloat16()
    for function, parameters in ((our_layer_norm, (weight, bias)), (our_rms_norm, (weight,))):
        wide = [p.detach().double().requires_grad_() for p in parameters]
        y = function(x, *parameters)
        assert y.dtype == torch.bfloat16
        ours = torch.autograd.grad(y, parameters, upstream)
        exact = torch.autograd.grad(function(x.double(), *wide), wide, upstream.double())
        for got, expected in zip(ours, exact, strict=True):
            torch.testing.assert_close(got, expected.float(), rtol=1e-5, atol=1e-5)


def test_rms_norm_keeps_fp32_in_autocast() -> None:
    """The sums are matrix products, which autocast would round to bf16."""
    inputs = [normal(50, 8).float().requires_grad_(), normal(8, seed=1).float().requires_grad_()]
    upstream = normal(50, 8, seed=2).float()
    expected = torch.autograd.grad(our_rms_norm(*inputs), inputs, upstream)
    with torch.autocast("cpu", torch.bfloat16):
        y = our_rms_norm(*inputs)
        assert y.dtype == torch.float32
        torch.testing.assert_close(torch.autograd.grad(y, inputs, upstream), expected, rtol=0, atol=0)


def test_works_under_vmap() -> None:
    x, weight = normal(5, 3, 4), normal(4, seed=1)

    def loss(row: Tensor) -> Tensor:
        return (layer_norm(row, [4], weight) * rms_norm(row, [4])).sum()

    together = torch.func.vmap(torch.func.grad(loss))(x)
    one_by_one = torch.stack([torch.func.grad(loss)(row) for row in x])
    torch.testing.assert_close(together, one_by_one, rtol=1e-10, atol=1e-12)


def test_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(2, 5\) doesn't end in normalized_shape \(4,\)"):
        layer_norm(torch.zeros(2, 5), [4])
    with pytest.raises(ValueError, match=r"\(5,\) doesn't end in normalized_shape \(2, 5\)"):
        rms_norm(torch.zeros(5), [2, 5])

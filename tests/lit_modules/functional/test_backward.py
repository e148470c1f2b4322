"""Each derivation against finite differences, against PyTorch's own backward, and at its hard inputs."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.functional import backward, blocks

Check = Callable[..., None]


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def our_layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return backward.layer_norm(x, weight.shape, weight, bias)


def their_layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, weight.shape, weight, bias)


def our_rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return backward.rms_norm(x, weight.shape, weight)


def their_rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, eps=1e-6)


def their_binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def softmax_cross_entropy_of_fixed_targets(logits: Tensor) -> Tensor:
    return backward.softmax_cross_entropy(logits, torch.arange(len(logits)) % logits.shape[-1])


def their_softmax_cross_entropy(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[-1], reduction="none")


Function = Callable[..., Tensor]
# ours, PyTorch's, and a draw of inputs
CASES: dict[str, tuple[Function, Function, Callable[[int], list[Tensor]]]] = {
    "linear": (
        backward.linear,
        F.linear,
        lambda seed: [normal(9, 5, seed=seed), normal(4, 5, seed=seed + 100), normal(4, seed=seed + 200)],
    ),
    "linear without bias": (
        backward.linear,
        F.linear,
        lambda seed: [normal(2, 3, 5, seed=seed), normal(4, 5, seed=seed + 100)],
    ),
    "relu": (backward.relu, F.relu, lambda seed: [normal(7, 5, seed=seed)]),
    "sigmoid": (backward.sigmoid, torch.sigmoid, lambda seed: [normal(7, 5, seed=seed, scale=4)]),
    "binary cross-entropy": (
        backward.binary_cross_entropy,
        their_binary_cross_entropy,
        lambda seed: [normal(7, 5, seed=seed, scale=4), uniform(7, 5, seed=seed + 100)],
    ),
    "softmax cross-entropy": (
        softmax_cross_entropy_of_fixed_targets,
        their_softmax_cross_entropy,
        lambda seed: [normal(9, 4, seed=seed, scale=4)],
    ),
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
def test_gradcheck(name: str) -> None:
    function, _, draw = CASES[name]
    inputs = [x.requires_grad_() for x in draw(0)]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("name", CASES)
def test_equals_pytorch(name: str, assert_equal_in_fp64: Check) -> None:
    ours, theirs, draw = CASES[name]
    assert_equal_in_fp64(ours, theirs, *draw(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_is_as_accurate_as_pytorch(name: str, dtype: torch.dtype, assert_as_accurate: Check) -> None:
    ours, theirs, draw = CASES[name]

    def of_the_inputs_type(*inputs: Tensor) -> Tensor:
        return ours(*inputs).to(inputs[0].dtype)  # the cross-entropies leave the rounding to their callers

    assert_as_accurate(of_the_inputs_type, theirs, draw, dtype)


@pytest.mark.parametrize("name", ["layer norm", "rms norm"])
@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_as_accurate_as_pytorch_on_small_and_large_inputs(
    name: str, scale: float, dtype: torch.dtype, assert_as_accurate: Check
) -> None:
    ours, theirs, draw = CASES[name]
    assert_as_accurate(ours, theirs, lambda seed: [scale * draw(seed)[0], *draw(seed)[1:]], dtype)


@pytest.mark.parametrize("name", CASES)
def test_takes_inputs_that_are_not_contiguous(name: str, assert_equal_in_fp64: Check) -> None:
    ours, theirs, draw = CASES[name]

    def spread(x: Tensor) -> Tensor:
        return torch.stack([x, -x], dim=-1)[..., 0]

    assert_equal_in_fp64(lambda *xs: ours(*map(spread, xs)), lambda *xs: theirs(*map(spread, xs)), *draw(2))


@pytest.mark.parametrize("name", CASES)
def test_takes_an_empty_batch(name: str, assert_equal_in_fp64: Check) -> None:
    ours, theirs, draw = CASES[name]
    first, *rest = draw(3)
    same = [x[:0] if x.shape == first.shape and "norm" not in name else x for x in rest]
    assert_equal_in_fp64(ours, theirs, first[:0], *same)


def test_norms_without_weight_and_bias(assert_equal_in_fp64: Check) -> None:
    x = normal(4, 7)
    assert_equal_in_fp64(lambda x: backward.layer_norm(x, [7]), lambda x: F.layer_norm(x, [7]), x)
    assert_equal_in_fp64(
        lambda x: backward.rms_norm(x, [7], eps=1e-3), lambda x: F.rms_norm(x, [7], eps=1e-3), x
    )
    assert_equal_in_fp64(
        lambda x: backward.layer_norm(x, [7], eps=1e-3), lambda x: F.layer_norm(x, [7], eps=1e-3), x
    )


def test_norms_of_constant_and_single_features(assert_equal_in_fp64: Check) -> None:
    for x in (torch.full((2, 5), 3.0), torch.zeros(2, 5), normal(4, 1)):
        shape = x.shape[1:]
        assert_equal_in_fp64(
            lambda x, s=shape: backward.rms_norm(x, s), lambda x, s=shape: F.rms_norm(x, s, eps=1e-6), x
        )
        y = backward.layer_norm(x, shape)
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
    """Its sums are matrix products, which autocast would otherwise round to bf16."""
    inputs = [normal(50, 8).float().requires_grad_(), normal(8, seed=1).float().requires_grad_()]
    upstream = normal(50, 8, seed=2).float()
    expected = torch.autograd.grad(our_rms_norm(*inputs), inputs, upstream)
    with torch.autocast("cpu", torch.bfloat16):
        y = our_rms_norm(*inputs)
        assert y.dtype == torch.float32
        torch.testing.assert_close(torch.autograd.grad(y, inputs, upstream), expected, rtol=0, atol=0)


def test_relu_has_no_slope_at_zero_and_keeps_nan() -> None:
    x = torch.tensor([-1.0, 0.0, 2.0, torch.nan], requires_grad=True)
    y = backward.relu(x)
    y[:3].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 1, 0]
    assert bool(y[3].isnan())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sigmoid_and_binary_cross_entropy_at_extremes(dtype: torch.dtype) -> None:
    x = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=dtype, requires_grad=True)
    torch.testing.assert_close(backward.sigmoid(x), torch.sigmoid(x.double()).to(dtype), rtol=1e-6, atol=0)
    for t in (0.0, 0.25, 1.0):
        targets = torch.full_like(x, t)
        wide = x.detach().double().requires_grad_()
        expected = F.binary_cross_entropy_with_logits(wide, targets.double(), reduction="none")
        losses = backward.binary_cross_entropy(x, targets)
        torch.testing.assert_close(losses.double(), expected, rtol=1e-6, atol=1e-40)
        (slope,) = torch.autograd.grad(losses.sum(), x)
        torch.testing.assert_close(
            slope.double(), (1 - t) * torch.sigmoid(wide) - t * torch.sigmoid(-wide), rtol=4e-3, atol=1e-40
        )


def test_binary_cross_entropy_of_a_zero_logit_has_half_a_slope() -> None:
    """Built of max(x, 0) and |x|, it would get 1 − t or −t from automatic differentiation."""
    x = torch.zeros(2, requires_grad=True)
    backward.binary_cross_entropy(x, torch.tensor([0.0, 1.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.5, -0.5]


def test_softmax_cross_entropy_is_the_same_in_blocks(
    monkeypatch: pytest.MonkeyPatch, assert_equal_in_fp64: Check
) -> None:
    monkeypatch.setattr(blocks, "_PER_CPU_THREAD", 8)
    assert_equal_in_fp64(
        softmax_cross_entropy_of_fixed_targets, their_softmax_cross_entropy, normal(29, 5, scale=3)
    )


def test_softmax_cross_entropy_of_a_masked_row_is_infinite_with_zero_gradients() -> None:
    x = torch.tensor([[-torch.inf, -torch.inf], [0.0, -torch.inf], [1.0, 1.0]], requires_grad=True)
    losses = backward.softmax_cross_entropy(x, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(losses, torch.tensor([torch.inf, 0.0, math.log(2)]))
    losses.backward(torch.ones(3))
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 0], [0, 0], [0.5, -0.5]]


def test_works_under_vmap() -> None:
    x, weight, targets = normal(5, 3, 4), normal(4, 4, seed=1), torch.tensor([0, 3, 2])

    def loss(row: Tensor) -> Tensor:
        hidden = backward.layer_norm(backward.linear(row, weight), [4])
        gated = backward.relu(hidden) * backward.sigmoid(row) + backward.rms_norm(row, [4])
        extra = backward.binary_cross_entropy(gated, torch.full_like(gated, 0.3)).sum()
        return backward.softmax_cross_entropy(gated, targets).sum() + extra

    together = torch.func.vmap(torch.func.grad(loss))(x)
    one_by_one = torch.stack([torch.func.grad(loss)(row) for row in x])
    torch.testing.assert_close(together, one_by_one, rtol=1e-10, atol=1e-12)


def test_refuses_widths_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="5 features and weight takes 4"):
        backward.linear(torch.zeros(2, 5), torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"\(2, 5\) doesn't end in normalized_shape \(4,\)"):
        backward.layer_norm(torch.zeros(2, 5), [4])
    with pytest.raises(ValueError, match=r"\(5,\) doesn't end in normalized_shape \(2, 5\)"):
        backward.rms_norm(torch.zeros(5), [2, 5])
    with pytest.raises(ValueError, match=r"\[0, 3\); got values from 1 to 3"):
        backward.softmax_cross_entropy(torch.zeros(2, 3), torch.tensor([1, 3]))

"""Each derivation against finite differences and PyTorch, and on hard inputs."""

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
}


@pytest.mark.parametrize("name", CASES)
def test_equals_pytorch_and_finite_differences(name: str, assert_derivatives: Check) -> None:
    assert_derivatives(*CASES[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_is_as_accurate_as_pytorch(name: str, dtype: torch.dtype, assert_as_accurate: Check) -> None:
    ours, theirs, draw = CASES[name]

    def of_the_inputs_type(*inputs: Tensor) -> Tensor:
        return ours(*inputs).to(inputs[0].dtype)  # the cross-entropies leave the rounding to their callers

    assert_as_accurate(of_the_inputs_type, theirs, draw, dtype)


@pytest.mark.parametrize("name", CASES)
def test_works_under_autocast(name: str) -> None:
    """The output may have half precision where inputs and weights have single precision."""
    ours, theirs, draw = CASES[name]
    gradients = []
    for function in (ours, theirs):
        inputs = [x.float().requires_grad_() for x in draw(0)]
        with torch.autocast("cpu", torch.bfloat16):
            output = function(*inputs)
        gradients.append(torch.autograd.grad(output.float().square().sum(), inputs))
    for mine, expected in zip(*gradients, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


@pytest.mark.parametrize("name", CASES)
def test_takes_an_empty_batch(name: str, assert_equal_in_fp64: Check) -> None:
    ours, theirs, draw = CASES[name]
    first, *rest = draw(3)
    same = [x[:0] if x.shape == first.shape else x for x in rest]
    assert_equal_in_fp64(ours, theirs, first[:0], *same)


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
    """Automatic differentiation of max(x, 0) and |x| would give 1 − t or −t."""
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
        gated = backward.relu(backward.linear(row, weight)) * backward.sigmoid(row)
        extra = backward.binary_cross_entropy(gated, torch.full_like(gated, 0.3)).sum()
        return backward.softmax_cross_entropy(gated, targets).sum() + extra

    together = torch.func.vmap(torch.func.grad(loss))(x)
    one_by_one = torch.stack([torch.func.grad(loss)(row) for row in x])
    torch.testing.assert_close(together, one_by_one, rtol=1e-10, atol=1e-12)


def test_refuses_widths_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="5 features, but weight takes 4"):
        backward.linear(torch.zeros(2, 5), torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"\[0, 3\); got values from 1 to 3"):
        backward.softmax_cross_entropy(torch.zeros(2, 3), torch.tensor([1, 3]))

"""Comparisons with an oracle: to 1e-10 in fp64, and to PyTorch's own error in fp32 and bf16."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

Outcome = list[Tensor]


def value_and_gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor], seed: int = 0) -> Outcome:
    """Return the output, and the gradients of floating-point inputs for a random output gradient."""
    leaves = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    output = function(*leaves)
    generator = torch.Generator().manual_seed(seed)
    upstream = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    wanted = [x for x in leaves if x.is_floating_point()]
    gradients = torch.autograd.grad(output, wanted, upstream.to(torch.bfloat16).to(output.dtype))
    return [output.detach(), *gradients]


@pytest.fixture
def assert_equal_in_fp64() -> Callable[..., None]:
    """Values and gradients equal the oracle's, element by element, to a relative 1e-10."""

    def check(ours: Callable[..., Tensor], oracle: Callable[..., Tensor], *inputs: Tensor) -> None:
        wide = [x.double() if x.is_floating_point() else x for x in inputs]
        outcomes = zip(value_and_gradients(ours, wide), value_and_gradients(oracle, wide), strict=True)
        for got, expected in outcomes:
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-14)

    return check


@pytest.fixture
def assert_derivatives(assert_equal_in_fp64: Callable[..., None]) -> Callable[..., None]:
    """First and second derivatives equal finite differences and the oracle's, on strided inputs too."""

    def strided(x: Tensor) -> Tensor:
        return torch.stack([x, -x], dim=-1)[..., 0]

    def check(
        ours: Callable[..., Tensor],
        oracle: Callable[..., Tensor],
        draw: Callable[[int], Sequence[Tensor]],
    ) -> None:
        inputs = [x.requires_grad_() for x in draw(0)]
        assert torch.autograd.gradcheck(ours, inputs)
        assert torch.autograd.gradgradcheck(ours, inputs)
        assert_equal_in_fp64(ours, oracle, *draw(1))
        assert_equal_in_fp64(
            lambda *xs: ours(*map(strided, xs)), lambda *xs: oracle(*map(strided, xs)), *draw(2)
        )

    return check


@pytest.fixture
def assert_as_accurate() -> Callable[..., None]:
    """Over several draws of inputs, errors against fp64 are at most 1.5 times PyTorch's errors.

    The error of a tensor is the root of its squared errors, summed over the draws. If PyTorch's error is
    smaller than the error of rounding the fp64 result once, the latter is allowed.
    """

    def check(
        ours: Callable[..., Tensor],
        theirs: Callable[..., Tensor],
        draw: Callable[[int], Sequence[Tensor]],
        dtype: torch.dtype,
        *,
        draws: int = 8,
    ) -> None:
        sums: list[list[float]] = []
        for seed in range(draws):
            narrow = [x.to(dtype) if x.is_floating_point() else x for x in draw(seed)]
            wide = [x.double() if x.is_floating_point() else x for x in narrow]
            reference = value_and_gradients(theirs, wide, seed)
            rows: Any = zip(
                value_and_gradients(ours, narrow, seed),
                value_and_gradients(theirs, narrow, seed),
                reference,
                strict=True,
            )
            for index, (our, their, exact) in enumerate(rows):
                if seed == 0:
                    sums.append([0.0, 0.0, 0.0])
                for place, result in enumerate((our, their, exact.to(dtype))):
                    sums[index][place] += float((result.double() - exact).square().sum())
        for index, (our_error, their_error, rounding) in enumerate(sums):
            allowed = max(1.5 * their_error**0.5, 1.001 * rounding**0.5)
            assert our_error**0.5 <= allowed, (
                f"output {index}: {our_error**0.5:.3g}, PyTorch's {their_error**0.5:.3g}, "
                f"one rounding {rounding**0.5:.3g}"
            )

    return check

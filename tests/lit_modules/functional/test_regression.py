from collections.abc import Callable
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.functional.regression import mse, mse_l1_cosine

Check = Callable[..., None]
Reduction = Literal["none", "sum", "mean"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4)])
def test_equals_pytorch(shape: tuple[int, ...], reduction: Reduction, assert_equal_in_fp64: Check) -> None:
    assert_equal_in_fp64(
        lambda y, t: mse(y, t, reduction=reduction),
        lambda y, t: F.mse_loss(y, t, reduction=reduction),
        normal(*shape),
        normal(*shape, seed=1),
    )


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_equals_pytorch_at_any_size_and_stride(scale: float, assert_equal_in_fp64: Check) -> None:
    assert_equal_in_fp64(
        lambda y, t: mse(y.T[::2], t.T[::2]),
        lambda y, t: F.mse_loss(y.T[::2], t.T[::2]),
        scale * normal(3, 7),
        scale * normal(3, 7, seed=1),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_is_as_accurate_as_pytorch(
    reduction: Reduction, dtype: torch.dtype, assert_as_accurate: Check
) -> None:
    assert_as_accurate(
        lambda y, t: mse(y, t, reduction=reduction),
        lambda y, t: F.mse_loss(y, t, reduction=reduction),
        lambda seed: [normal(16, 9, seed=seed), normal(16, 9, seed=seed + 50)],
        dtype,
        draws=16,
    )


def test_mean_over_nothing_is_zero() -> None:
    assert mse(torch.empty(0, 3), torch.empty(0, 3)).item() == 0


def test_takes_integer_targets_and_keeps_the_predictions_type() -> None:
    loss = mse(torch.tensor([1.5, 2.0], dtype=torch.bfloat16), torch.tensor([1, 4]))
    assert loss.dtype == torch.bfloat16
    assert loss.item() == (0.25 + 4) / 2


def test_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(ValueError, match=r"\(4, 1\).*\(4,\)"):
        mse(torch.zeros(4, 1), torch.zeros(4))


def reference(y: Tensor, t: Tensor) -> Tensor:
    return F.mse_loss(y, t) + F.l1_loss(y, t) - F.cosine_similarity(y, t, dim=-1, eps=0.0).mean()


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_size_and_direction_equal_pytorch(
    shape: tuple[int, ...], scale: float, assert_equal_in_fp64: Check
) -> None:
    assert_equal_in_fp64(mse_l1_cosine, reference, scale * normal(*shape), scale * normal(*shape, seed=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_size_and_direction_are_as_accurate_as_pytorch(dtype: torch.dtype, assert_as_accurate: Check) -> None:
    assert_as_accurate(
        mse_l1_cosine,
        reference,
        lambda seed: [normal(16, 9, seed=seed), normal(16, 9, seed=seed + 50)],
        dtype,
        draws=16,
    )


def test_a_zero_vector_has_no_gradient() -> None:
    for zero, other in ((torch.zeros(1, 4), torch.ones(1, 4)), (torch.ones(1, 4), torch.zeros(1, 4))):
        predicted = zero.requires_grad_()
        loss = mse_l1_cosine(predicted, other)
        loss.backward()
        assert loss.item() == pytest.approx(2.0)  # 1 + 1 − 0
        assert predicted.grad is not None
        assert predicted.grad.isfinite().all()


def test_size_and_direction_refuse_shapes_that_would_broadcast() -> None:
    with pytest.raises(ValueError, match=r"\(4, 1\).*\(4,\)"):
        mse_l1_cosine(torch.zeros(4, 1), torch.zeros(4))

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr
from torch import Tensor

from lit_modules.functional.divergence import kl_divergence, kl_divergence_from_logits

Check = Callable[..., None]
Reduction = Literal["none", "sum", "mean"]


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def theirs(p: Tensor, q: Tensor, reduction: Reduction = "mean") -> Tensor:
    losses = F.kl_div(q.log(), p, reduction="none").sum(-1)
    return {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction]


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("shape", [(1,), (5,), (3, 4), (2, 3, 7)])
def test_equals_pytorch(shape: tuple[int, ...], reduction: Reduction, assert_equal_in_fp64: Check) -> None:
    assert_equal_in_fp64(
        lambda p, q: kl_divergence(p, q, reduction=reduction),
        lambda p, q: theirs(p, q, reduction),
        normal(*shape).softmax(-1),
        normal(*shape, seed=1).softmax(-1),
    )


def test_mean_is_over_rows_and_takes_any_stride(assert_equal_in_fp64: Check) -> None:
    assert_equal_in_fp64(
        lambda p, q: kl_divergence(p.T, q.T),
        lambda p, q: F.kl_div(q.T.log(), p.T, reduction="batchmean"),
        normal(5, 3).softmax(0),
        normal(5, 3, seed=1).softmax(0),
    )


def test_is_exact_where_p_is_zero_and_infinite_where_only_q_is() -> None:
    p = torch.tensor(
        [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64
    )
    q = torch.tensor(
        [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 1.0, 0.0]], dtype=torch.float64
    )
    got = kl_divergence(p, q, reduction="none")
    assert got.tolist() == [math.log(2), 0, math.inf, math.inf]
    assert got.tolist() == rel_entr(p.numpy(), q.numpy()).sum(-1).tolist()


def test_gradients_where_p_is_zero() -> None:
    p = torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.0, 0.25, 0.75], dtype=torch.float64, requires_grad=True)
    p_slope, q_slope = torch.autograd.grad(kl_divergence(p, q), [p, q])
    torch.testing.assert_close(
        p_slope, torch.tensor([0, math.log(2) + 1, math.log(0.5 / 0.75) + 1], dtype=torch.float64)
    )
    torch.testing.assert_close(q_slope, torch.tensor([0, -2, -0.5 / 0.75], dtype=torch.float64))


def test_takes_probabilities_with_rounding_errors() -> None:
    p = torch.tensor([1e-4, 1 - 1e-4], dtype=torch.float64)
    q = torch.tensor([1 - 1e-300, 1e-300], dtype=torch.float64)
    assert kl_divergence(p, q).item() == pytest.approx(rel_entr(p.numpy(), q.numpy()).sum(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_is_as_accurate_as_pytorch(dtype: torch.dtype, assert_as_accurate: Check) -> None:
    assert_as_accurate(
        lambda p, q: kl_divergence(p, q, reduction="none"),
        lambda p, q: theirs(p, q, "none"),
        lambda seed: [normal(16, 9, seed=seed).softmax(-1), normal(16, 9, seed=seed + 50).softmax(-1)],
        dtype,
    )


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        ([0.5, 0.4], [0.5, 0.5], "p must sum to 1"),
        ([0.5, 0.5], [0.5, 0.6], "q must sum to 1"),
        ([1.5, -0.5], [0.5, 0.5], "p must be probabilities"),
        ([0.5, 0.5], [math.nan, 0.5], "q must be probabilities"),
        ([[0.5, 0.5]], [0.5, 0.5], r"\(1, 2\) and \(2,\)"),
    ],
)
def test_refuses_rows_that_are_not_distributions(p: list[float], q: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kl_divergence(torch.tensor(p), torch.tensor(q))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_from_logits_equals_pytorch(
    reduction: Reduction, temperature: float, assert_equal_in_fp64: Check
) -> None:
    assert_equal_in_fp64(
        lambda a, b: kl_divergence_from_logits(a, b, temperature=temperature, reduction=reduction),
        lambda a, b: theirs((a / temperature).softmax(-1), (b / temperature).softmax(-1), reduction),
        normal(2, 3, 5),
        normal(2, 3, 5, seed=1),
    )


def test_from_logits_at_large_logits(assert_equal_in_fp64: Check) -> None:
    def oracle(a: Tensor, b: Tensor) -> Tensor:
        return F.kl_div(b.log_softmax(-1), a.log_softmax(-1), log_target=True, reduction="batchmean")

    a = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, 0.0, 1e4]])
    assert_equal_in_fp64(kl_divergence_from_logits, oracle, a, a.flip(-1))
    assert_equal_in_fp64(kl_divergence_from_logits, oracle, a, 1e-4 * a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("apart", [3.0, 0.1])
def test_from_logits_is_as_accurate_as_pytorch(
    apart: float, dtype: torch.dtype, assert_as_accurate: Check
) -> None:
    def draw(seed: int) -> list[Tensor]:
        a = normal(16, 9, seed=seed, scale=3)
        return [a, a + normal(16, 9, seed=seed + 50, scale=apart)]

    assert_as_accurate(
        lambda a, b: kl_divergence_from_logits(a, b, reduction="none"),
        lambda a, b: F.kl_div(b.log_softmax(-1), a.log_softmax(-1), log_target=True, reduction="none").sum(
            -1
        ),
        draw,
        dtype,
    )


def test_masked_logits_are_probabilities_of_zero() -> None:
    a = torch.tensor([[-torch.inf, 1.0, 2.0], [-torch.inf] * 3], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[0.5, 1.0, 3.0], [1.0, 2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    losses = kl_divergence_from_logits(a, b, reduction="none")
    torch.testing.assert_close(losses[0], kl_divergence(a[0].softmax(-1), b[0].softmax(-1)))
    assert losses[1].item() == 0
    a_slope, b_slope = torch.autograd.grad(losses.sum(), [a, b])
    torch.testing.assert_close(b_slope[0], b[0].softmax(-1) - a[0].softmax(-1))
    assert a_slope[0, 0].item() == 0
    assert a_slope[1].tolist() == b_slope[1].tolist() == [0, 0, 0]
    assert kl_divergence_from_logits(b[0], a[0]).item() == math.inf


def test_of_itself_is_zero_and_gradients_are_right() -> None:
    a = normal(3, 4)
    assert kl_divergence_from_logits(a, a, reduction="none").tolist() == [0, 0, 0]
    inputs = (a.requires_grad_(), normal(3, 4, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: kl_divergence_from_logits(a, b, temperature=2.0), inputs)
    assert torch.autograd.gradgradcheck(kl_divergence_from_logits, inputs)
    together = torch.func.vmap(torch.func.grad(kl_divergence_from_logits))(*inputs)
    one_by_one = [torch.func.grad(kl_divergence_from_logits)(*pair) for pair in zip(*inputs, strict=True)]
    torch.testing.assert_close(together, torch.stack(one_by_one), rtol=1e-12, atol=1e-14)


def test_mean_over_nothing_is_zero() -> None:
    assert kl_divergence(torch.empty(0, 3), torch.empty(0, 3)).item() == 0
    assert kl_divergence_from_logits(torch.empty(0, 3), torch.empty(0, 3)).item() == 0


def test_from_logits_refuses_mismatched_arguments() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        kl_divergence_from_logits(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="positive; got 0"):
        kl_divergence_from_logits(torch.zeros(2), torch.zeros(2), temperature=0)

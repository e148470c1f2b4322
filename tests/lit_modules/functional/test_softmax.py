from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lit_modules.functional.softmax import log_softmax, logsumexp, softmax

FAMILY = [(softmax, torch.softmax), (log_softmax, torch.log_softmax), (logsumexp, torch.logsumexp)]
Check = Callable[..., None]


def normal(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("ours", "oracle"), FAMILY)
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((5,), 0), ((4, 7), -1), ((4, 7), 0), ((2, 3, 5), 1), ((2, 3, 1), -1), ((0, 3), -1), ((1, 1), 0)],
)
def test_equals_pytorch_over_any_dim(
    ours: Callable[..., Tensor],
    oracle: Callable[..., Tensor],
    shape: tuple[int, ...],
    dim: int,
    assert_equal_in_fp64: Check,
) -> None:
    assert_equal_in_fp64(lambda x: ours(x, dim), lambda x: oracle(x, dim), normal(*shape))


@pytest.mark.parametrize(("ours", "oracle"), FAMILY)
@pytest.mark.parametrize(
    "x",
    [
        torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4]]),
        torch.tensor([[1e-4, -1e-4, 0.0], [1e-4, 1e-4, 1e-4], [0.0, 0.0, 0.0]]),
        torch.tensor([[2.0, 2.0, 2.0], [5.0, 5.0, 1.0], [-3.0, 4.0, 4.0]]),
        torch.tensor([[0.0, -torch.inf, 1.0], [-torch.inf, 1e4, -torch.inf], [1.0, 2.0, 3.0]]),
    ],
    ids=["large", "small", "ties", "partly masked"],
)
def test_equals_pytorch_on_hard_inputs(
    ours: Callable[..., Tensor], oracle: Callable[..., Tensor], x: Tensor, assert_equal_in_fp64: Check
) -> None:
    assert_equal_in_fp64(lambda x: ours(x, -1), lambda x: oracle(x, -1), x)


@pytest.mark.parametrize(("ours", "oracle"), FAMILY)
def test_takes_inputs_that_are_not_contiguous(
    ours: Callable[..., Tensor], oracle: Callable[..., Tensor], assert_equal_in_fp64: Check
) -> None:
    assert_equal_in_fp64(
        lambda x: ours(x.transpose(0, 2)[::2], 1),
        lambda x: oracle(x.transpose(0, 2)[::2], 1),
        normal(3, 4, 6),
    )


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("dim", [(0, 2), (1,), -1])
def test_logsumexp_reduces_several_dims(
    dim: int | tuple[int, ...], keepdim: bool, assert_equal_in_fp64: Check
) -> None:
    assert_equal_in_fp64(
        lambda x: logsumexp(x, dim, keepdim=keepdim),
        lambda x: torch.logsumexp(x, dim, keepdim=keepdim),
        normal(3, 4, 5),
    )


@pytest.mark.parametrize(("ours", "theirs"), FAMILY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_is_as_accurate_as_pytorch(
    ours: Callable[..., Tensor],
    theirs: Callable[..., Tensor],
    dtype: torch.dtype,
    scale: float,
    assert_as_accurate: Check,
) -> None:
    assert_as_accurate(
        lambda x: ours(x, -1),
        lambda x: theirs(x, -1),
        lambda seed: [normal(16, 33, seed=seed, scale=scale)],
        dtype,
    )


@pytest.mark.parametrize(("function", "expected"), [(softmax, 0.0), (log_softmax, -torch.inf)])
def test_an_all_masked_row_has_the_documented_result_and_zero_gradients(
    function: Callable[..., Tensor], expected: float
) -> None:
    x = torch.tensor([[-torch.inf] * 3, [1.0, 2.0, -torch.inf]], requires_grad=True)
    y = function(x, -1)
    assert y[0].tolist() == [expected] * 3
    assert torch.equal(y[1], function(x[1].detach()))
    (gradient,) = torch.autograd.grad(y, x, torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]]))
    assert gradient[0].tolist() == [0.0] * 3
    assert bool(gradient[1].abs().sum() > 0)
    assert bool(gradient.isfinite().all())


def test_logsumexp_of_an_empty_row_is_minus_infinity_with_zero_gradients() -> None:
    x = torch.tensor([[-torch.inf] * 3, [1.0, 2.0, -torch.inf]], requires_grad=True)
    z = logsumexp(x, -1)
    assert z[0].item() == -torch.inf
    z.sum().backward()
    assert x.grad is not None
    assert x.grad[0].tolist() == [0.0] * 3
    torch.testing.assert_close(x.grad[1], torch.softmax(x[1].detach(), 0))
    assert logsumexp(torch.empty(2, 0), -1).tolist() == [-torch.inf] * 2


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_plus_infinity_propagate(bad: float) -> None:
    x = torch.tensor([1.0, bad, 2.0])
    assert bool(softmax(x).isnan().all())
    assert bool(log_softmax(x).isnan().all())
    torch.testing.assert_close(logsumexp(x), torch.logsumexp(x, 0), equal_nan=True)


@pytest.mark.parametrize("function", [softmax, log_softmax, logsumexp])
def test_gradients_of_gradients(function: Callable[..., Tensor]) -> None:
    x = normal(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: function(x, 0), x)
    assert torch.autograd.gradgradcheck(lambda x: function(x, 0), x)


@pytest.mark.parametrize("function", [softmax, log_softmax, logsumexp])
def test_works_under_vmap(function: Callable[..., Tensor]) -> None:
    x, weights = normal(5, 3, 4), normal(3, 4, seed=1)

    def objective(row: Tensor) -> Tensor:
        return (function(row, 0) * weights).sum()

    per_sample = torch.func.vmap(torch.func.grad(objective))(x)
    expected = torch.stack([torch.func.grad(objective)(row) for row in x])
    torch.testing.assert_close(per_sample, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("function", [softmax, log_softmax, logsumexp])
def test_result_type(function: Callable[..., Tensor]) -> None:
    x = normal(2, 3)
    assert function(x.bfloat16()).dtype == torch.bfloat16
    assert function(x).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert function(x.bfloat16()).dtype == torch.float32

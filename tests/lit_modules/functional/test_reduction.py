import pytest
import torch

from lit_modules.functional.reduction import reduce


def test_reductions_are_those_of_torch() -> None:
    losses = torch.rand(3, 4, dtype=torch.float64)
    assert reduce(losses, "none") is losses
    assert torch.equal(reduce(losses, "sum"), losses.sum())
    torch.testing.assert_close(reduce(losses, "mean"), losses.mean(), rtol=1e-15, atol=0)


def test_weighted_mean_divides_by_the_weights() -> None:
    losses, weights = torch.tensor([2.0, 6.0]), torch.tensor([1.0, 3.0])
    assert reduce(losses, "mean", weights=weights).item() == 2.0


@pytest.mark.parametrize("weights", [None, torch.zeros(0), torch.zeros(3)])
def test_mean_over_nothing_is_zero_with_finite_gradients(weights: torch.Tensor | None) -> None:
    losses = torch.zeros(0 if weights is None else len(weights), requires_grad=True)
    mean = reduce(losses, "mean", weights=weights)
    mean.backward()
    assert mean.item() == 0
    assert losses.grad is not None
    assert bool(losses.grad.isfinite().all())


def test_an_unknown_reduction_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match=r"none, sum, mean.*batchmean"):
        reduce(torch.zeros(1), "batchmean")  # type: ignore[arg-type]

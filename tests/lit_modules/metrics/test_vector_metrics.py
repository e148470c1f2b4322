import math

import pytest
import torch
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from lit_modules.metrics.vector_metrics import MeanCosine, VectorR2


def vectors(seed: int, rows: int = 11, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed))
    mean = torch.tensor([0.0, 5.0, 0.0, -3.0, 0.0])
    return scale * (drawn * torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0]) + mean)


def fill(metric: VectorR2 | MeanCosine, predictions: Tensor, targets: Tensor, size: int) -> float:
    for some, true in zip(predictions.split(size), targets.split(size), strict=True):
        metric.update(some, true)
    return metric.compute().item()


@pytest.mark.parametrize("size", [1, 4, 11])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_r2_is_scikit_learns_whatever_the_batches(size: int, scale: float) -> None:
    targets = vectors(0, scale=scale)
    predictions = targets + 0.3 * vectors(1, scale=scale)
    expected = r2_score(targets.numpy(), predictions.numpy(), multioutput="variance_weighted")
    assert fill(VectorR2(scale), predictions, targets, size) == pytest.approx(expected, rel=1e-4)
    in_double = VectorR2(scale).set_dtype(torch.float64)
    expected = r2_score(
        targets.double().numpy(), predictions.double().numpy(), multioutput="variance_weighted"
    )
    found = fill(in_double, predictions.double(), targets.double(), size)
    assert found == pytest.approx(expected, rel=1e-12)


def test_r2_of_a_single_row_is_undefined() -> None:
    metric = VectorR2(1.0)
    metric.update(vectors(0)[:1], vectors(1)[:1])
    assert metric.compute().isnan()
    assert metric.compute().shape == ()


def test_r2_of_the_mean_is_zero_and_of_the_truth_one() -> None:
    targets = vectors(0)
    mean = targets.mean(0).expand_as(targets)
    assert fill(VectorR2(1.0), mean, targets, 4) == pytest.approx(0, abs=1e-5)
    assert fill(VectorR2(1.0), targets, targets, 4) == pytest.approx(1, abs=1e-6)


def test_cosine_is_scikit_learns_over_targets_that_have_a_direction() -> None:
    targets, predictions = vectors(0), vectors(1)
    targets[3], predictions[5] = 0, 0
    pairwise = cosine_similarity(predictions, targets).diagonal()
    expected = (pairwise.sum() - pairwise[3]) / 10
    assert fill(MeanCosine(), predictions, targets, 4) == pytest.approx(expected, rel=1e-5)


def test_cosine_of_nothing_but_zeros_is_not_a_number() -> None:
    assert math.isnan(fill(MeanCosine(), vectors(0), torch.zeros(11, 5), 4))


def test_both_start_anew_after_a_reset() -> None:
    for metric in (VectorR2(1.0), MeanCosine()):
        first = fill(metric, vectors(1), vectors(0), 4)
        metric.reset()
        assert fill(metric, vectors(1), vectors(0), 4) == first

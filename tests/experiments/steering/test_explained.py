"""The variance that is explained, against scikit-learn and by construction."""

import pytest
import torch
from sklearn.metrics import r2_score

from experiments.steering.explained import explained


def test_the_share_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, noise = (torch.randn(40, 3, generator=generator) for _ in range(2))
    predicted = vectors + 0.3 * noise
    found = explained(vectors, predicted, vectors)
    expected = r2_score(vectors, predicted, multioutput="variance_weighted")
    assert found.r2 == pytest.approx(expected, abs=1e-6)


def test_only_a_prediction_that_knows_more_than_the_answer_is_beyond_it() -> None:
    answers = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    vectors = answers + torch.tensor([[0.0, 0.4], [0.0, -0.4], [0.0, 0.4], [0.0, -0.4]])
    assert explained(vectors, answers, answers).beyond_answer == pytest.approx(0)
    assert explained(vectors, answers, answers).r2 == pytest.approx(1 - 0.64 / 4.64)
    assert explained(vectors, vectors, answers).beyond_answer == 1
    halfway = (vectors + answers) / 2
    assert explained(vectors, halfway, answers).beyond_answer == pytest.approx(0.75)
    assert explained(vectors, -answers, answers).beyond_answer < 0

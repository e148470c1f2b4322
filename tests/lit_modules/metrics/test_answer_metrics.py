"""Shares of correct answers, counted by hand."""

import math

import torch

from lit_modules.metrics.answer_metrics import ExactMatch

CORRECT = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1]]).bool()
LONGER = torch.tensor([0, 0, 0, 1, 1]).bool()


def measured(**settings: bool) -> float:
    metric = ExactMatch(**settings)
    for rows in (slice(0, 2), slice(2, 5)):
        metric.update(CORRECT[rows], LONGER[rows])
    return float(metric.compute())


def test_greedy_and_sampled_answers_to_usual_and_longer_problems() -> None:
    assert measured() == torch.tensor(1 / 3)
    assert measured(sampled=True) == torch.tensor(1 / 3)
    assert measured(longer=True) == 0.5
    assert measured(longer=True, sampled=True) == 1


def test_without_a_problem_there_is_no_share() -> None:
    metric = ExactMatch(longer=True)
    metric.update(CORRECT[:2], LONGER[:2])
    assert math.isnan(metric.compute())

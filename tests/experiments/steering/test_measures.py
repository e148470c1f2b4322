import math

import pytest

from experiments.steering.measures import log_perplexity_ratios, perplexity_ratio, repetition


def test_empty_answers_do_not_lower_the_perplexity() -> None:
    plain = [-1.0, -3.0, math.nan]
    assert perplexity_ratio([-1.5, math.nan, -9.0], plain) == math.exp(0.5)
    assert log_perplexity_ratios([-1.5, math.nan, -9.0], plain) == {0: 0.5}
    assert math.isnan(perplexity_ratio([math.nan, math.nan, -9.0], plain))


def test_repetition_is_the_share_of_runs_that_were_there_before() -> None:
    assert repetition([1, 2, 3, 1, 2, 3]) == pytest.approx(1 / 4)
    assert repetition([7] * 12) == pytest.approx(9 / 10)
    assert repetition([1, 2]) == repetition([]) == repetition([1, 2, 3, 4]) == 0

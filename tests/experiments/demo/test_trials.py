"""The wrong versions are the usual mistakes: their probabilities are those of the theory."""

from collections import Counter

import pytest
import torch

from experiments.demo.trials import (
    TRIALS,
    reservoir_off_by_one,
    shares,
    shuffle_from_all_places,
    sqrt_fixed_step,
)


def test_shares_are_counted() -> None:
    results = iter([["a"], ["a", "b"]] * (TRIALS // 2))
    assert shares(lambda: next(results), "abc") == [1, 0.5, 0]


def test_the_wrong_shuffle_favours_three_orders() -> None:
    generator = torch.Generator().manual_seed(1)
    counts = Counter(shuffle_from_all_places("abc", generator) for _ in range(TRIALS))
    theory = {"abc": 4, "acb": 5, "bac": 5, "bca": 5, "cab": 4, "cba": 4}  # of 27 equally likely draws
    for order, ways in theory.items():
        assert counts[order] / TRIALS == pytest.approx(ways / 27, abs=0.012)


def test_the_wrong_reservoir_keeps_later_items_too_often() -> None:
    generator = torch.Generator().manual_seed(1)
    found = shares(lambda: reservoir_off_by_one("abcdef", 2, generator), "abcdef")
    # Item n > 2 enters with 2 / (n - 1), and each later item m removes it with 1 / (m - 1).
    assert found == pytest.approx([0.2, 0.2, 0.4, 0.4, 0.4, 0.4], abs=0.015)


def test_a_fixed_step_finds_a_small_root_and_loses_a_large_one() -> None:
    assert sqrt_fixed_step(2.0)[-1] == pytest.approx(2**0.5, abs=1e-3)
    assert not abs(sqrt_fixed_step(1e6)[-1]) < 1e300

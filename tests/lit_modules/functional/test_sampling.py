import math

import pytest
import torch
import transformers
from scipy import stats
from torch import Tensor

from lit_modules.functional.sampling import (
    greedy,
    min_p,
    repetition_penalty,
    sample_token,
    temperature,
    top_k,
    top_p,
)

V = 23


def normal(rows: int = 4, *, scale: float = 3.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(rows, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ids(rows: int = 4, length: int = 9) -> Tensor:
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(1))


def draws(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------ beside transformers' processors


@pytest.mark.parametrize("t", [1e-3, 0.7, 1.0, 3.0])
def test_temperature_equals_transformers(t: float) -> None:
    expected = transformers.TemperatureLogitsWarper(t)(ids(), normal())
    torch.testing.assert_close(temperature(normal(), t), expected)


@pytest.mark.parametrize("k", [1, 2, 7, V - 1, V, 10 * V])
def test_top_k_equals_transformers(k: int) -> None:
    for logits in (normal(), normal().round(), torch.zeros(2, V)):  # with ties, and nothing but ties
        assert torch.equal(top_k(logits, k), transformers.TopKLogitsWarper(k)(ids(), logits))


@pytest.mark.parametrize("p", [1e-9, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_top_p_equals_transformers(p: float) -> None:
    for logits in (normal(), normal(scale=0.1), normal(scale=30)):
        assert torch.equal(top_p(logits, p), transformers.TopPLogitsWarper(p)(ids(), logits))


@pytest.mark.parametrize("p", [0.0, 0.01, 0.2, 0.9, 1.0])
def test_min_p_equals_transformers(p: float) -> None:
    for logits in (normal(), normal(scale=0.1), normal(scale=30)):
        assert torch.equal(min_p(logits, p), transformers.MinPLogitsWarper(p)(ids(), logits))


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.2, 10.0])
def test_repetition_penalty_equals_transformers(penalty: float) -> None:
    logits, tokens = normal(), ids()
    seen = torch.zeros(4, V, dtype=torch.bool).scatter(1, tokens, True)
    expected = transformers.RepetitionPenaltyLogitsProcessor(penalty)(tokens, logits)
    torch.testing.assert_close(repetition_penalty(logits, seen, penalty), expected)
    assert torch.equal(repetition_penalty(logits, ~seen, 1.0), logits)


# ---------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("p", [0.01, 0.3, 0.77, 0.99])
def test_the_nucleus_is_the_smallest_set_with_probability_p(p: float) -> None:
    logits = normal(50, scale=2.0)
    kept = top_p(logits, p) > -math.inf
    probabilities = logits.softmax(-1)
    for row, inside in zip(probabilities, kept, strict=True):
        assert row[inside].sum() >= p
        assert row[inside].sum() - row[inside].min() < p  # without its least, it isn't enough
        assert inside.all() or row[inside].min() >= row[~inside].max()


def test_equal_tokens_are_kept_in_order_up_to_the_nucleus() -> None:
    kept = top_p(torch.zeros(1, 10), 0.35) > -math.inf
    assert kept.squeeze(0).tolist() == [True] * 4 + [False] * 6


def test_removed_tokens_stay_removed() -> None:
    for logits in (normal(), normal().float(), normal().bfloat16(), 1e4 * normal().sign()):
        out = top_k(logits, 3)
        for function in (lambda x: temperature(x, 0.5), lambda x: top_p(x, 0.99), lambda x: min_p(x, 0.01)):
            assert (function(out)[out == -math.inf] == -math.inf).all()
            assert (function(out) > -math.inf).any(-1).all()
        nothing = torch.zeros_like(out, dtype=torch.bool)
        assert (repetition_penalty(out, ~nothing, 1.3)[out == -math.inf] == -math.inf).all()


def test_half_precision_chooses_what_its_values_say() -> None:
    logits = normal(20).bfloat16()
    for p in (0.2, 0.9):
        assert torch.equal(top_p(logits, p) > -math.inf, top_p(logits.double(), p) > -math.inf)
        assert torch.equal(min_p(logits, p) > -math.inf, min_p(logits.double(), p) > -math.inf)
    assert temperature(logits, 0.3).dtype == torch.float32
    u = draws(20)
    assert torch.equal(sample_token(logits, u), sample_token(logits.double(), u))


def test_the_logits_are_left_as_they_are() -> None:
    logits, seen = normal(), torch.ones(4, V, dtype=torch.bool)
    before = logits.clone()
    for result in (
        temperature(logits, 2.0),
        top_k(logits, 2),
        top_p(logits, 0.5),
        min_p(logits, 0.5),
        repetition_penalty(logits, seen, 2.0),
    ):
        assert not torch.equal(result, before)
    assert torch.equal(logits, before)


def test_draws_follow_the_probabilities() -> None:
    logits = normal(1, scale=1.0)
    count = 20_000
    tokens = sample_token(logits.expand(count, V), draws(count))
    observed = torch.bincount(tokens, minlength=V)
    expected = count * logits[0].softmax(-1)
    assert stats.chisquare(observed, expected * (observed.sum() / expected.sum())).pvalue > 1e-3
    wrong = count * (1.1 * logits[0]).softmax(-1)
    assert stats.chisquare(observed, wrong).pvalue < 1e-9  # the test can tell


def test_a_row_is_drawn_alike_alone_and_among_others() -> None:
    logits, u = normal(6), draws(6)
    together = sample_token(logits, u)
    alone = torch.cat([sample_token(logits[i : i + 1], u[i : i + 1]) for i in range(6)])
    assert torch.equal(together, alone)


def test_the_smallest_and_largest_random_numbers_give_a_possible_token() -> None:
    logits = torch.full((3, V), -math.inf)
    logits[0, 5], logits[1, [2, 7]], logits[2, 11:14] = 1e4, -1e4, torch.tensor([-1e4, 1e4, -1e4])
    assert sample_token(logits, torch.zeros(3)).tolist() == [5, 2, 12]
    almost = torch.full((3,), math.nextafter(1, 0), dtype=torch.float64)
    assert sample_token(logits, almost).tolist() == [5, 7, 12]
    assert sample_token(logits, torch.ones(3)).tolist() == [5, 7, 12]  # rounded up by a coarser type


def test_greedy_is_the_limit_of_cold() -> None:
    logits = normal(30)
    assert torch.equal(greedy(logits), logits.argmax(-1))
    assert torch.equal(sample_token(temperature(logits, 1e-6), draws(30)), greedy(logits))
    assert torch.equal(sample_token(top_k(logits, 1), draws(30)), greedy(logits))


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_rows_without_an_answer_are_named(bad: float) -> None:
    logits = normal()
    logits[2] = bad
    with pytest.raises(ValueError, match="row 2: its logits contain NaN"):
        sample_token(logits, draws(4))
    with pytest.raises(ValueError, match="row 2: its logits contain NaN"):
        greedy(logits)
    logits[2] = math.inf
    with pytest.raises(ValueError, match="row 2"):
        sample_token(logits, draws(4))


def test_settings_outside_their_range_are_refused() -> None:
    logits, seen = normal(), torch.ones(4, V, dtype=torch.bool)
    for t in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"above 0; got {t}"):
            temperature(logits, t)
        with pytest.raises(ValueError, match=f"above 0; got {t}"):
            repetition_penalty(logits, seen, t)
    with pytest.raises(ValueError, match="at least 1 token; got 0"):
        top_k(logits, 0)
    for p in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"top_p must lie in \(0, 1\]"):
            top_p(logits, p)
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"min_p must lie in \[0, 1\]"):
            min_p(logits, p)
    with pytest.raises(ValueError, match=r"seen has shape \(4, 1\) and logits \(4, 23\)"):
        repetition_penalty(logits, seen[:, :1], 2.0)

import itertools
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from scipy.stats import binomtest, chisquare

from lit_modules.functional import numerics
from lit_modules.functional.numerics import (
    PiEstimate,
    SquareRoot,
    fisher_yates_shuffle,
    monte_carlo_pi,
    reservoir_sample,
    sqrt_gradient_descent,
    sqrt_newton,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_order_is_equally_likely(n: int) -> None:
    generator = seeded()
    counts = Counter(tuple(fisher_yates_shuffle(range(n), generator=generator)) for _ in range(3000))
    orders = list(itertools.permutations(range(n)))
    assert counts.keys() <= set(orders)
    assert chisquare([counts[order] for order in orders]).pvalue > 1e-3


@pytest.mark.parametrize("place", [0, 20, 40])
def test_every_item_is_equally_likely_in_a_place(place: int) -> None:
    generator = seeded(1)
    counts = Counter(fisher_yates_shuffle(range(41), generator=generator)[place] for _ in range(2000))
    assert chisquare([counts[item] for item in range(41)]).pvalue > 1e-3


@pytest.mark.parametrize("n", [0, 1, 2, 3000])
def test_a_shuffle_keeps_the_items_and_leaves_the_sequence_alone(n: int) -> None:
    items = list(range(n))
    shuffled = fisher_yates_shuffle(items, generator=seeded())
    assert items == list(range(n))
    assert sorted(shuffled) == items
    assert shuffled is not items
    assert shuffled == fisher_yates_shuffle(tuple(items), generator=seeded())
    if n > 2:
        assert shuffled != fisher_yates_shuffle(items, generator=seeded(1))


def test_a_shuffle_takes_strings_and_repeats() -> None:
    assert sorted(fisher_yates_shuffle("balloon", generator=seeded())) == sorted("balloon")


@pytest.mark.parametrize(("n", "k"), [(6, 1), (6, 3), (6, 5), (5, 4)])
def test_every_subset_is_equally_likely(n: int, k: int) -> None:
    generator = seeded()
    counts = Counter(frozenset(reservoir_sample(range(n), k, generator=generator)) for _ in range(3000))
    subsets = [frozenset(subset) for subset in itertools.combinations(range(n), k)]
    assert counts.keys() <= set(subsets)
    assert chisquare([counts[subset] for subset in subsets]).pvalue > 1e-3


def test_every_item_of_a_long_stream_is_equally_likely() -> None:
    generator = seeded(1)
    counts: Counter[int] = Counter()
    for _ in range(50):
        counts.update(reservoir_sample(iter(range(2000)), 40, generator=generator))
    tenths = [sum(counts[item] for item in range(start, start + 200)) for start in range(0, 2000, 200)]
    assert sum(tenths) == 50 * 40
    assert chisquare(tenths).pvalue > 1e-3


@pytest.mark.parametrize(("n", "k"), [(0, 0), (0, 3), (3, 0), (3, 3), (3, 7), (1, 1)])
def test_a_reservoir_no_smaller_than_the_stream_keeps_it(n: int, k: int) -> None:
    assert reservoir_sample(iter(range(n)), k, generator=seeded()) == list(range(n))[:k]


def test_one_pass_is_enough_and_seeds_decide() -> None:
    visits: list[int] = []

    def stream() -> Iterator[int]:
        for item in range(100):
            visits.append(item)
            yield item

    sample = reservoir_sample(stream(), 5, generator=seeded())
    assert visits == list(range(100))
    assert len(set(sample)) == 5
    assert sample == reservoir_sample(range(100), 5, generator=seeded())
    assert sample != reservoir_sample(range(100), 5, generator=seeded(1))


def test_no_other_randomness_is_touched() -> None:
    torch.manual_seed(3)
    random.seed(3)
    before = torch.get_rng_state(), random.getstate()
    fisher_yates_shuffle(range(9), generator=seeded())
    reservoir_sample(range(9), 2, generator=seeded())
    monte_carlo_pi(9, generator=seeded())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_negative_reservoir_is_refused() -> None:
    with pytest.raises(ValueError, match="negative; got -1"):
        reservoir_sample([1, 2], -1, generator=seeded())


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_the_interval_is_wilsons(n: int, confidence: float) -> None:
    for seed in range(5):
        estimate = monte_carlo_pi(n, generator=seeded(seed), confidence=confidence)
        inside = round(estimate.value * n / 4)
        assert estimate == PiEstimate(4 * inside / n, estimate.low, estimate.high)
        expected = binomtest(inside, n).proportion_ci(confidence, method="wilson")
        assert estimate.low == pytest.approx(4 * expected.low, rel=1e-9, abs=1e-12)
        assert estimate.high == pytest.approx(4 * expected.high, rel=1e-9)
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.high - estimate.low > 0


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_the_interval_holds_pi_as_often_as_it_says(confidence: float) -> None:
    generator = seeded()
    estimates = [monte_carlo_pi(2000, generator=generator, confidence=confidence) for _ in range(500)]
    held = sum(e.low <= math.pi <= e.high for e in estimates)
    assert binomtest(held, 500, confidence).pvalue > 1e-3
    mean = sum(e.value for e in estimates) / 500
    assert mean == pytest.approx(math.pi, abs=4 * math.sqrt(math.pi * (4 - math.pi) / 1e6))


def test_the_error_falls_with_the_root_of_n_and_seeds_decide() -> None:
    few, many = (monte_carlo_pi(n, generator=seeded()) for n in (10_000, 1_000_000))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(10, rel=0.05)
    assert few == monte_carlo_pi(10_000, generator=seeded())
    assert few != monte_carlo_pi(10_000, generator=seeded(1))


def test_points_are_drawn_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "_POINTS_AT_ONCE", 100)
    generator = seeded()
    blocks = [torch.rand(2, size, generator=generator, dtype=torch.float64) for size in (100, 100, 50)]
    x, y = torch.cat(blocks, dim=1)
    expected = 4 * float((torch.hypot(x, y) <= 1).double().mean())
    assert monte_carlo_pi(250, generator=seeded()).value == expected


@pytest.mark.parametrize(
    ("n", "confidence", "message"),
    [
        (0, 0.95, "at least 1; got 0"),
        (-3, 0.95, "at least 1; got -3"),
        (10, 1.0, r"\(0, 1\); got 1\.0"),
        (10, 0.0, r"\(0, 1\); got 0\.0"),
    ],
)
def test_pi_refuses_no_points_and_no_confidence(n: int, confidence: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        monte_carlo_pi(n, generator=seeded(), confidence=confidence)


METHODS = [sqrt_gradient_descent, sqrt_newton]
NUMBERS = [0.25, 1.0, 2.0, 3.0, 4.0, 1e-4, 1e4, 1e6, 12345678.9, 1e100, 1e-100, 1e300, 1e-300]
EXTREMES = [sys.float_info.max, sys.float_info.min, 5e-324, 1 - sys.float_info.epsilon / 2]


@pytest.mark.parametrize("a", NUMBERS + EXTREMES)
@pytest.mark.parametrize(("root", "steps"), [(sqrt_gradient_descent, 40), (sqrt_newton, 8)])
def test_converges_to_the_root_from_above(root: Callable[[float], SquareRoot], steps: int, a: float) -> None:
    value, iterates = root(a)
    assert value == pytest.approx(math.sqrt(a), rel=1e-15, abs=0)
    assert iterates[-1] == value
    assert iterates[0] <= 2 * math.sqrt(a) * (1 + 1e-15)
    assert all(later < earlier for earlier, later in itertools.pairwise(iterates))
    assert len(iterates) <= steps


@pytest.mark.parametrize("a", [2.0, 1e-4, 1e4, 3e50])
def test_each_step_is_along_the_gradient_that_autograd_finds(a: float) -> None:
    iterates = sqrt_gradient_descent(a).iterates
    for x, following in itertools.islice(itertools.pairwise(iterates), 8):
        point = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        ((point**2 - a) ** 2 / 4).backward()
        assert point.grad is not None
        assert following == pytest.approx(x - point.grad.item() / (3 * x * x), rel=1e-12)


@pytest.mark.parametrize("a", [2.0, 1e-4, 1e4, 3e50])
def test_each_newton_step_is_the_root_of_the_tangent(a: float) -> None:
    for x, following in itertools.islice(itertools.pairwise(sqrt_newton(a).iterates), 4):
        point = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        value = point**2 - a
        value.backward()
        assert point.grad is not None
        assert following == pytest.approx(x - (value / point.grad).item(), rel=1e-12)


@pytest.mark.parametrize("root", METHODS)
def test_the_root_of_zero_and_invalid_numbers(root: Callable[[float], SquareRoot]) -> None:
    assert root(0.0) == (0.0, [0.0])
    for bad in (-1.0, -1e-300, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"got {bad}"):
            root(bad)

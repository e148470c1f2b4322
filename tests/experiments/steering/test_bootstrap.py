import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from experiments.steering.bootstrap import mean_interval, ratio_interval


def test_with_a_topic_each_it_is_scipys() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=80)
    ours = mean_interval(values, range(80))  # type: ignore[arg-type]
    theirs = bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.06)
    assert ours.high == pytest.approx(theirs.high, abs=0.06)


def test_a_ratio_is_scipys_too() -> None:
    generator = np.random.default_rng(0)
    below = generator.normal(4, 1, size=60)
    above = 0.7 * below + generator.normal(0, 0.5, size=60)
    ours = ratio_interval(above, below, range(60))  # type: ignore[arg-type]
    theirs = bootstrap(
        (above, below),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        n_resamples=5000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours.value == pytest.approx(above.sum() / below.sum())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_prompts_of_a_topic_count_as_one_draw() -> None:
    """Ten copies of twenty values tell no more than the twenty do."""
    values = np.random.default_rng(0).normal(size=20)
    once = mean_interval(values, range(20))  # type: ignore[arg-type]
    copies = mean_interval(np.repeat(values, 10), np.repeat(np.arange(20), 10).tolist())  # type: ignore[arg-type]
    assert copies.low == pytest.approx(once.low)
    assert copies.high == pytest.approx(once.high)
    apart = mean_interval(np.repeat(values, 10), range(200))  # type: ignore[arg-type]
    assert apart.high - apart.low < 0.5 * (once.high - once.low)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    generator, hits = np.random.default_rng(0), 0
    for turn in range(200):
        sample = generator.normal(1.0, 1.0, size=40)
        estimate = mean_interval(sample, range(40), seed=turn)  # type: ignore[arg-type]
        hits += estimate.low <= 1.0 <= estimate.high
    spread = norm.ppf(0.999) * np.sqrt(0.05 * 0.95 / 200)
    assert hits / 200 > 0.95 - 0.02 - spread


def test_it_is_written_with_its_bounds_and_refuses_nothing() -> None:
    assert str(mean_interval([1.0, 1.0], "ab")) == "1.000 [1.000, 1.000]"
    with pytest.raises(ValueError, match="0 and 0 values of 0 prompts"):
        mean_interval([], [])
    with pytest.raises(ValueError, match="2 and 1 values of 2 prompts"):
        ratio_interval([1.0, 2.0], [1.0], "ab")

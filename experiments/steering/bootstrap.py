"""Intervals for what was measured on the same prompts: they are drawn again, all prompts of a topic together.

Prompts of a topic are alike, so that an interval over single prompts would be too narrow.

Shape letters: N prompts, C topics, R times that they are drawn.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean or a ratio of means, and the interval that holds 95 % of those of drawn topics."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0) -> Estimate:
    """The mean, and its percentile interval.

    For the difference of two methods pass the differences, prompt by prompt: the pairs are then kept.

    Args:
        values: One for each prompt.
        clusters: The prompts' topics.
        seed: Of the draws.
    """
    return ratio_interval(values, [1.0] * len(values), clusters, seed=seed)


def ratio_interval(
    above: Sequence[float], below: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0
) -> Estimate:
    """Σ above / Σ below, and its percentile interval.

    Args:
        above: One for each prompt.
        below: One for each prompt.
        clusters: The prompts' topics.
        seed: Of the draws.

    Raises:
        ValueError: There are no values, or not as many of each.

    Source: Efron & Tibshirani 1993, chapters 13 and 8.3.
    """
    if not len(above) == len(below) == len(clusters) or not len(above):
        raise ValueError(f"{len(above)} and {len(below)} values of {len(clusters)} prompts: expected as many")
    names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    members = np.array([names[name] for name in clusters])
    sums = np.stack([np.bincount(members, weights=np.asarray(v, dtype=float)) for v in (above, below)])
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES
    )  # (R, C)
    drawn = sums @ draws.T  # (2, R)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = drawn[0] / drawn[1]
        value = float(sums[0].sum() / sums[1].sum())
    low, high = np.nanpercentile(ratios, [2.5, 97.5])
    return Estimate(value, float(low), float(high))

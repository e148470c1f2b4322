"""Bootstrap intervals that resample whole topics.

Prompts of one topic are similar, so an interval that resamples single prompts would be too narrow.

Shape letters: C topics, R resamples.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean or a ratio of means, with its 95 % percentile interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0) -> Estimate:
    """Estimate a mean with its percentile interval.

    To compare two methods, pass their differences prompt by prompt. This keeps the pairs together.

    Args:
        values: One value for each prompt.
        clusters: The topic of each prompt.
        seed: Seed of the resampling.
    """
    return ratio_interval(values, [1.0] * len(values), clusters, seed=seed)


def ratio_interval(
    above: Sequence[float], below: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0
) -> Estimate:
    """Estimate Σ above / Σ below with its percentile interval.

    `above` and `below` have one value for each prompt; for the rest see `mean_interval`.

    Raises:
        ValueError: There are no values, or their numbers differ.

    Source: Efron & Tibshirani 1993, chapters 13 and 8.3.
    """
    if not len(above) == len(below) == len(clusters) or not len(above):
        raise ValueError(
            f"{len(above)} and {len(below)} values of {len(clusters)} prompts: expected equal numbers above 0"
        )
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

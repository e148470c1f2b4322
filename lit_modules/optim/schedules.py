"""Learning-rate schedules as pure functions: the number of steps already taken → a factor on the rate."""

import math
from collections.abc import Callable

Anneal = Callable[[float, float, float], float]


def linear(start: float, end: float, progress: float) -> float:
    """The point at a share `progress` of the straight way from `start` to `end`."""
    return start + (end - start) * progress


def cosine(start: float, end: float, progress: float) -> float:
    """The point at a share `progress` of half a cosine from `start` to `end`, level at both ends."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def one_cycle(
    step: int, *, total_steps: int, warmup_fraction: float, first: float, last: float, anneal: Anneal
) -> float:
    """Climb from `first` to 1, then descend to `last`, which the last step uses (Smith & Topin 2018).

    The peak is where PyTorch's `OneCycleLR` has it, at step `warmup_fraction × total_steps − 1`, which
    may lie between two steps; without a warm-up it is the first step.

    Args:
        step: Steps already taken, from 0; from `total_steps − 1` on the factor stays `last`.
        total_steps: Steps in the whole fit.
        warmup_fraction: Share of the steps that climb.
        first: Factor of the first step.
        last: Factor of the last step.
        anneal: `cosine` or `linear`, for both slopes.

    Returns:
        The factor on the peak learning rate.
    """
    peak, end = max(warmup_fraction * total_steps - 1, 0.0), total_steps - 1
    if step <= peak:
        return anneal(first, 1.0, step / peak) if peak > 0 else 1.0
    return anneal(1.0, last, (step - peak) / (end - peak)) if step < end else last


def warmup(step: int, *, total_steps: int, warmup_steps: int, last: float, anneal: Anneal) -> float:
    """Climb along a straight line to 1 at step `warmup_steps`, then descend to `last` at `total_steps`.

    The climb starts at `1 / (warmup_steps + 1)`: a first step of rate zero would teach nothing.

    Args:
        step: Steps already taken, from 0; from `total_steps` on the factor stays `last`.
        total_steps: Steps in the whole fit.
        warmup_steps: Steps that climb.
        last: Factor that the descent ends in.
        anneal: `cosine` or `linear`, for the descent.

    Returns:
        The factor on the peak learning rate.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if step >= total_steps:
        return last
    return anneal(1.0, last, (step - warmup_steps) / (total_steps - warmup_steps))

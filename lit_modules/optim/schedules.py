"""Learning-rate schedules: pure functions from the number of steps taken to a factor on the learning rate."""

import math
from collections.abc import Callable
from functools import singledispatch

from lit_modules.configs.optim import (
    ConstantConfig,
    OneCycleConfig,
    StepDecayConfig,
    WarmupCosineConfig,
    WarmupLinearConfig,
)

Anneal = Callable[[float, float, float], float]
Schedule = Callable[[int], float]


def linear(start: float, end: float, progress: float) -> float:
    """Interpolate from `start` to `end` along a straight line, at `progress` in [0, 1]."""
    return start + (end - start) * progress


def cosine(start: float, end: float, progress: float) -> float:
    """Interpolate from `start` to `end` along half a cosine, which is level at both ends."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def one_cycle(
    step: int, *, total_steps: int, warmup_fraction: float, first: float, last: float, anneal: Anneal
) -> float:
    """Rise from `first` to 1, then fall to `last` at the last step (Smith & Topin 2018).

    As in PyTorch's `OneCycleLR`, the peak is at step `warmup_fraction × total_steps − 1`, which may be a
    fraction. Without a warm-up it is the first step.

    Args:
        step: Number of steps taken; from `total_steps − 1` on the factor stays `last`.
        total_steps: Number of steps in the whole fit.
        warmup_fraction: Share of the steps in which the factor rises.
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
    """Rise along a straight line to 1 at step `warmup_steps`, then fall to `last` at `total_steps`.

    The first factor is `1 / (warmup_steps + 1)`, because a step with a rate of zero would be wasted.

    Args:
        step: Number of steps taken; from `total_steps` on the factor stays `last`.
        total_steps: Number of steps in the whole fit.
        warmup_steps: Number of steps in which the factor rises.
        last: Final factor.
        anneal: `cosine` or `linear`, for the fall.

    Returns:
        The factor on the peak learning rate.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if step >= total_steps:
        return last
    return anneal(1.0, last, (step - warmup_steps) / (total_steps - warmup_steps))


@singledispatch
def build_schedule(config: object, *, total_steps: int, steps_per_epoch: int) -> Schedule:
    """Build the schedule of a config; `build_schedule.register` adds a type of config.

    A schedule depends only on the step, so a resumed run needs no state for it.

    Args:
        config: A schedule config of `lit_modules.configs.optim`.
        total_steps: Number of optimizer steps in the whole fit; later steps keep the last factor.
        steps_per_epoch: Number of optimizer steps in an epoch.

    Returns:
        A function for `LambdaLR`, from the number of steps taken to a factor on the learning rate.

    Raises:
        ValueError: No schedule is registered for this type of config.
    """
    raise ValueError(f"no schedule is known for a config of type {type(config).__name__}")


@build_schedule.register
def _(config: ConstantConfig, *, total_steps: int, steps_per_epoch: int) -> Schedule:
    return lambda step: 1.0


@build_schedule.register
def _(config: OneCycleConfig, *, total_steps: int, steps_per_epoch: int) -> Schedule:
    first = 1.0 / config.initial_divisor
    return lambda step: one_cycle(
        step,
        total_steps=total_steps,
        warmup_fraction=config.warmup_fraction,
        first=first,
        last=first / config.final_divisor,
        anneal=cosine if config.anneal == "cosine" else linear,
    )


@build_schedule.register(WarmupCosineConfig)
@build_schedule.register(WarmupLinearConfig)
def _(config: WarmupCosineConfig | WarmupLinearConfig, *, total_steps: int, steps_per_epoch: int) -> Schedule:
    return lambda step: warmup(
        step,
        total_steps=total_steps,
        warmup_steps=int(config.warmup_fraction * total_steps),
        last=config.final_factor,
        anneal=cosine if isinstance(config, WarmupCosineConfig) else linear,
    )


@build_schedule.register
def _(config: StepDecayConfig, *, total_steps: int, steps_per_epoch: int) -> Schedule:
    return lambda step: config.gamma ** (step // (steps_per_epoch * config.every_epochs))

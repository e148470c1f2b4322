import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, StepLR

from lit_modules.configs.optim import (
    ConstantConfig,
    OneCycleConfig,
    StepDecayConfig,
    WarmupCosineConfig,
    WarmupLinearConfig,
)
from lit_modules.optim.schedules import build_schedule, cosine, linear, one_cycle, warmup

CONFIGS = [ConstantConfig(), OneCycleConfig(), WarmupCosineConfig(), WarmupLinearConfig(), StepDecayConfig()]


def rates(make, steps: int, lr: float = 0.5) -> list[float]:
    """The learning rates of `steps` steps under one of PyTorch's schedulers."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler: LRScheduler = make(optimizer)
    seen = []
    for step in range(steps):
        if step:
            optimizer.step()
            scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize(
    ("total_steps", "warmup_fraction", "initial_divisor", "final_divisor"),
    [
        (100, 0.3, 25.0, 1e4),
        (37, 0.21, 10.0, 100.0),
        (10, 0.5, 1.0, 1.0),
        (5, 0.4, 3.0, 1e4),
        (101, 1.0, 25.0, 1e4),
    ],
)
def test_one_cycle_is_pytorchs(anneal, total_steps, warmup_fraction, initial_divisor, final_divisor) -> None:
    config = OneCycleConfig(
        warmup_fraction=warmup_fraction,
        anneal=anneal,
        initial_divisor=initial_divisor,
        final_divisor=final_divisor,
    )
    factor = build_schedule(config, total_steps=total_steps, steps_per_epoch=7)
    expected = rates(
        lambda optimizer: OneCycleLR(
            optimizer,
            max_lr=0.5,
            total_steps=total_steps,
            pct_start=warmup_fraction,
            anneal_strategy="cos" if anneal == "cosine" else "linear",
            div_factor=initial_divisor,
            final_div_factor=final_divisor,
            cycle_momentum=False,
        ),
        total_steps,
    )
    assert [0.5 * factor(step) for step in range(total_steps)] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("warmup_fraction", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("total_steps", [2, 3, 20])
def test_one_cycle_ends_at_its_last_step_and_stays(total_steps, warmup_fraction) -> None:
    config = OneCycleConfig(warmup_fraction=warmup_fraction, initial_divisor=10.0, final_divisor=100.0)
    factor = build_schedule(config, total_steps=total_steps, steps_per_epoch=1)
    for step in (total_steps - 1, total_steps, total_steps + 50):
        assert factor(step) == pytest.approx(1e-3, rel=1e-12)


def test_one_cycle_without_warm_up_starts_at_its_peak() -> None:
    assert one_cycle(0, total_steps=10, warmup_fraction=0.0, first=0.1, last=0.0, anneal=linear) == 1.0


@pytest.mark.parametrize("final_factor", [0.0, 0.1])
@pytest.mark.parametrize("total_steps", [1, 2, 50])
def test_cosine_without_warm_up_is_pytorchs(total_steps, final_factor) -> None:
    config = WarmupCosineConfig(warmup_fraction=0.0, final_factor=final_factor)
    factor = build_schedule(config, total_steps=total_steps, steps_per_epoch=7)
    expected = rates(
        lambda o: CosineAnnealingLR(o, T_max=total_steps, eta_min=0.5 * final_factor), total_steps
    )
    assert [0.5 * factor(step) for step in range(total_steps)] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("final_factor", [0.0, 0.1])
def test_linear_without_warm_up_is_pytorchs(final_factor) -> None:
    config = WarmupLinearConfig(warmup_fraction=0.0, final_factor=final_factor)
    factor = build_schedule(config, total_steps=30, steps_per_epoch=7)
    expected = rates(lambda o: LinearLR(o, start_factor=1.0, end_factor=final_factor, total_iters=30), 40)
    assert [0.5 * factor(step) for step in range(40)] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "config", [WarmupCosineConfig(warmup_fraction=0.2), WarmupLinearConfig(warmup_fraction=0.2)]
)
def test_warm_up_is_pytorchs_and_reaches_one(config) -> None:
    factor = build_schedule(config, total_steps=50, steps_per_epoch=7)
    expected = rates(lambda o: LinearLR(o, start_factor=1 / 11, end_factor=1.0, total_iters=10), 11)
    assert [0.5 * factor(step) for step in range(11)] == pytest.approx(expected, rel=1e-9)
    assert factor(10) == 1.0
    assert factor(11) < 1.0


def test_descent_after_the_warm_up_is_pytorchs() -> None:
    factor = build_schedule(WarmupCosineConfig(warmup_fraction=0.2), total_steps=50, steps_per_epoch=7)
    expected = rates(lambda o: CosineAnnealingLR(o, T_max=40), 40)
    assert [0.5 * factor(10 + step) for step in range(40)] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("gamma", "every_epochs"), [(0.7, 1), (0.1, 3)])
def test_step_decay_is_pytorchs(gamma, every_epochs) -> None:
    factor = build_schedule(
        StepDecayConfig(gamma=gamma, every_epochs=every_epochs), total_steps=28, steps_per_epoch=4
    )
    by_epoch = rates(lambda o: StepLR(o, step_size=every_epochs, gamma=gamma), 7)
    expected = [rate for rate in by_epoch for _ in range(4)]
    assert [0.5 * factor(step) for step in range(28)] == pytest.approx(expected, rel=1e-12)


def test_constant_is_one() -> None:
    factor = build_schedule(ConstantConfig(), total_steps=3, steps_per_epoch=1)
    assert [factor(step) for step in (0, 2, 1000)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
@pytest.mark.parametrize("total_steps", [1, 2, 13])
def test_every_schedule_stays_between_zero_and_one(config, total_steps) -> None:
    factor = build_schedule(config, total_steps=total_steps, steps_per_epoch=1)
    factors = [factor(step) for step in range(total_steps + 5)]
    assert all(0.0 <= entry <= 1.0 for entry in factors)
    assert factors[0] > 0.0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_every_schedule_depends_on_the_step_alone(config) -> None:
    forwards = build_schedule(config, total_steps=20, steps_per_epoch=4)
    backwards = build_schedule(config, total_steps=20, steps_per_epoch=4)
    assert [forwards(step) for step in range(20)] == [backwards(step) for step in reversed(range(20))][::-1]


@pytest.mark.parametrize("anneal", [linear, cosine])
def test_anneals_meet_both_ends_and_the_middle(anneal) -> None:
    assert anneal(2.0, -4.0, 0.0) == pytest.approx(2.0, abs=1e-15)
    assert anneal(2.0, -4.0, 0.5) == pytest.approx(-1.0, abs=1e-15)
    assert anneal(2.0, -4.0, 1.0) == pytest.approx(-4.0, abs=1e-15)


def test_cosine_is_level_at_both_ends() -> None:
    assert cosine(0.0, 1.0, 1e-4) == pytest.approx((math.pi * 1e-4 / 2) ** 2, rel=1e-3)
    assert 1.0 - cosine(0.0, 1.0, 1 - 1e-4) == pytest.approx((math.pi * 1e-4 / 2) ** 2, rel=1e-3)


def test_warm_up_longer_than_the_fit_never_descends() -> None:
    factors = [warmup(step, total_steps=4, warmup_steps=4, last=0.0, anneal=linear) for step in range(4)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_unknown_schedule_is_named() -> None:
    with pytest.raises(ValueError, match="no schedule is known for a config of type dict"):
        build_schedule({"name": "constant"}, total_steps=1, steps_per_epoch=1)

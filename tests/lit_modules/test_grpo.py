"""The settings of GRPO choose the function that they name."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.info import TextInfo
from lit_modules.configs.objective import GRPOConfig
from lit_modules.generation.rollout import Rollout
from lit_modules.grpo import GRPO

INFO = TextInfo(vocab_size=7, context_length=9, answer_length=4)
REWARDS = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 1.0])


def objective(**settings: Any) -> GRPO:
    return GRPO(GRPOConfig(group_size=3, **settings), INFO)


def draw(seed: int) -> Tensor:
    return -torch.randn(6, 5, generator=torch.Generator().manual_seed(seed)).abs()


def rollout(objective: GRPO, **log_probs: Tensor) -> Rollout:
    targets = torch.randint(7, (6, 5), generator=torch.Generator().manual_seed(0))
    targets[:, 0], targets[1, 3:] = -100, -100
    advantages = objective.advantages(REWARDS)
    return Rollout(
        tokens=torch.zeros_like(targets), targets=targets, rewards=REWARDS, advantages=advantages, **log_probs
    )


def test_advantages_compare_the_answers_of_a_group() -> None:
    high, low = math.sqrt(2), math.sqrt(0.5)  # a biased standard deviation of √2 / 3
    expected = torch.tensor([high, -low, -low, -high, low, low])
    torch.testing.assert_close(objective().advantages(REWARDS), expected, rtol=1e-5, atol=0)
    assert objective(advantage="raw").advantages(REWARDS).tolist() == REWARDS.tolist()
    smaller = objective(unbiased_std=True).advantages(REWARDS)
    torch.testing.assert_close(smaller, expected * math.sqrt(2 / 3), rtol=1e-5, atol=0)


def test_rejection_sampling_has_the_gradient_of_the_cross_entropy_of_correct_answers() -> None:
    ours = objective(advantage="raw", ratio="none", normalization="token", skip_zero_advantages=True)
    logits = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    made = rollout(ours, old_log_probs=draw(2))
    rows = ours.rows(made)
    assert rows.tolist() == [0, 4, 5]
    part = made.part(rows)
    log_probs = logits.log_softmax(-1).gather(-1, made.targets.clamp(min=0)[..., None])[..., 0]
    expected = F.cross_entropy(logits[rows].flatten(0, 1), made.targets[rows].flatten(), ignore_index=-100)
    slopes = [torch.autograd.grad(x, logits)[0] for x in (ours(log_probs[rows], part), expected)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("skip", [False, True])
def test_without_any_advantage_all_answers_stay(skip: bool) -> None:
    ours = objective(skip_zero_advantages=skip)
    made = rollout(ours)
    none = Rollout(**{**made.to_dict(), "advantages": torch.zeros(6)})
    assert ours.rows(none).tolist() == list(range(6))
    assert ours.rows(made).tolist() == list(range(6))


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"clip": 0.5}, False),
        ({"clip_high": 0.0}, False),
        ({"ratio": "sequence"}, False),
        ({"normalization": "token"}, False),
        ({"normalization": "constant"}, False),
        ({"normalization": "none"}, False),
        ({"kl_weight": 0.1}, False),
        ({"ratio": "none"}, False),
        ({"temperature": 0.5, "skip_zero_advantages": True}, True),  # nothing to skip here
    ],
)
def test_each_setting_has_its_own_effect_on_the_loss(settings: dict[str, Any], same: bool) -> None:
    old, reference = draw(0), draw(1)
    plain, changed = objective(), objective(**settings)
    made = rollout(plain, old_log_probs=old, reference_log_probs=reference)
    log_probs = old + draw(2) + 0.8
    assert torch.equal(plain(log_probs, made), changed(log_probs, made)) == same


def test_the_curves_of_a_step() -> None:
    ours = objective(clip=0.2)
    logits = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(1))
    made = rollout(ours)
    log_probs = logits.log_softmax(-1).gather(-1, made.targets.clamp(min=0)[..., None])[..., 0]
    assert ours.curves(log_probs, logits, made).keys() == {"entropy", "clip_fraction"}
    made = rollout(ours, old_log_probs=log_probs - 1, reference_log_probs=log_probs)
    curves = ours.curves(log_probs, logits, made)
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(curves["entropy"], entropy[made.mask].mean())
    positive = (made.advantages > 0)[:, None] & made.mask
    assert curves["clip_fraction"] == positive.sum() / made.mask.sum()
    assert curves["kl"] == 0

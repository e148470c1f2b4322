"""A run that learns from rewards: the whole command, own rewards, and exact resume."""

import signal
from collections.abc import Iterator
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback

import experiments
from datamodules.info import DataInfo
from experiments import register
from experiments.config import registry
from experiments.config.root import Section
from experiments.errors import Interrupted, UserError
from experiments.training import build
from experiments.training.curve_file import read_curves
from lit_modules.configs.objective import GRPOConfig
from tests.campaigns.same_runs import differences

SETTINGS: dict[str, Any] = {
    "name": "answers",
    "model": {"name": "answer_model", "depth": 1, "width": 16, "num_heads": 2, "test_samples": 2},
    "data": {
        "name": "addition",
        "max_digits": 2,
        "train_size": 24,
        "val_size": 6,
        "test_size": 6,
        "longer_size": 3,
        "batch_size": 4,
    },
    "objective": {"name": "grpo", "group_size": 3, "kl_weight": 0.1, "inner_epochs": 2},
    "reward": {"name": "zeros"},
    "optimizer": {"name": "adamw", "lr": 0.01},
    "trainer": {
        "max_epochs": 2,
        "accelerator": "cpu",
        "precision": "32-true",
        "log_every_n_steps": 2,
        "progress_bar": False,
        "monitor": "val/exact_match",
        "monitor_mode": "max",
    },
}


def zeros(prompt: str, answer: str, given: str, *, digit: str = "0") -> float:
    """The share of zeros."""
    assert prompt.endswith("=")
    assert "," in given
    return answer.count(digit) / max(len(answer), 1)


@pytest.fixture(autouse=True)
def _own_reward(work: Any) -> Iterator[None]:
    register("reward", "zeros", zeros)
    yield
    del registry.CATALOG["reward"]["zeros"]
    registry.OWN.discard(("reward", "zeros"))


class Stop(Callback):
    """Raises a signal after a number of batches."""

    def __init__(self, after: int) -> None:
        self.left = after

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_samples_continues_exactly_from_any_step(accumulate: int) -> None:
    change = f"trainer.accumulate_grad_batches={accumulate}"
    whole = experiments.run(SETTINGS, change, "run_dir=whole")
    curves = read_curves(whole.run_dir)
    assert {"train/reward", "train/kl", "train/entropy", "train/clip_fraction"} < curves.keys()
    assert {"train/answer_length", "train/token_passes", "val/exact_match"} < curves.keys()
    assert {"test/pass_at_2", "test/exact_match_longer"} < whole.metrics.keys()
    for after in (2, 7, 12):  # between two steps on the same answers, in another epoch, in the last step
        run_dir = f"run_dir=cut_{after}"
        with pytest.raises(Interrupted):
            experiments.run(SETTINGS, change, run_dir, callbacks=[Stop(after)])
        cut = experiments.run(SETTINGS, change, run_dir, "resume=auto")
        assert differences(whole.run_dir, cut.run_dir) == []


def test_only_a_model_that_answers_has_a_reward() -> None:
    with pytest.raises(UserError, match=r"reward \(.*\): mlp generates no answers; remove this section"):
        experiments.run({"model": {"name": "mlp"}, "data": {"name": "digits"}, "reward": {"name": "zeros"}})
    with pytest.raises(UserError, match=r"unknown reward 'zero' \(did you mean zeros\?\)"):
        experiments.run(SETTINGS, "reward.name=zero")
    with pytest.raises(UserError, match=r"unknown key reward\.digits .*did you mean .*digit"):
        experiments.run(SETTINGS, "reward.digits=1")


@pytest.mark.parametrize("value", [None, "1", float("nan"), float("inf")])
def test_a_reward_that_is_no_finite_number_is_named(value: Any) -> None:
    register("reward", "odd", lambda prompt, answer, given: value)
    try:
        reward = build._reward_of_tokens(Section("odd", registry.schema("reward", "odd")()), DataInfo())
        message = r"reward 'odd' must return a finite number, got .* for the answer '2'"
        with pytest.raises(UserError, match=message):
            reward([ord("1")], [ord("2")], [ord("3")])
    finally:
        del registry.CATALOG["reward"]["odd"]
        registry.OWN.discard(("reward", "odd"))


def test_a_group_of_one_answer_needs_raw_rewards() -> None:
    GRPOConfig(group_size=1, advantage="raw")
    with pytest.raises(ValueError, match="group_size: 1 with advantage centered makes every advantage 0"):
        GRPOConfig(group_size=1, advantage="centered")

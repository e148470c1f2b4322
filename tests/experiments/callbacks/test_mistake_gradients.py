"""The gradient at confident mistakes is the one of the formula, and training does not notice it."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import experiments
from experiments.callbacks.mistake_gradients import mistake_gradients
from experiments.errors import UserError
from experiments.training.curve_file import read_curves
from lit_modules.configs.objective import BinaryCrossEntropyConfig, CrossEntropyConfig, MSEConfig
from lit_modules.objective import BinaryCrossEntropy, CrossEntropy, MeanSquaredError

LOGITS = torch.tensor([[8.0, 0.0, 0.0], [0.0, 9.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 5.0]])
TARGETS = torch.tensor([1, 1, 1, 0])  # the first and the last are confident mistakes


def test_cross_entropy_has_the_gradient_p_minus_y() -> None:
    module = SimpleNamespace(objective=CrossEntropy(CrossEntropyConfig()), num_outputs=3)
    expected = LOGITS[[0, 3]].softmax(-1) - torch.eye(3)[TARGETS[[0, 3]]]
    torch.testing.assert_close(mistake_gradients(module, LOGITS, TARGETS), expected.norm(dim=-1))


def test_the_squared_error_has_the_gradient_of_its_formula() -> None:
    """Sum over c of 2/K (p_c − y_c) p_c (δ_cj − p_j), for one example."""
    module = SimpleNamespace(objective=MeanSquaredError(MSEConfig()), num_outputs=3)
    p, y = LOGITS[[0, 3]].softmax(-1), torch.eye(3)[TARGETS[[0, 3]]]
    expected = 2 / 3 * p * ((p - y) - ((p - y) * p).sum(-1, keepdim=True))
    torch.testing.assert_close(mistake_gradients(module, LOGITS, TARGETS), expected.norm(dim=-1))


def test_a_single_output_is_its_own_logit() -> None:
    module = SimpleNamespace(objective=BinaryCrossEntropy(BinaryCrossEntropyConfig()), num_outputs=1)
    logits = torch.tensor([[0.0, 4.0], [0.0, 4.0]])
    (found,) = mistake_gradients(module, logits, torch.tensor([0, 1])).tolist()
    assert found == pytest.approx(1 / (1 + math.exp(-4)))


def test_no_mistake_gives_no_gradient() -> None:
    module = SimpleNamespace(objective=CrossEntropy(CrossEntropyConfig()), num_outputs=3)
    assert mistake_gradients(module, LOGITS, LOGITS.argmax(-1)).shape == (0,)


def test_measuring_changes_no_training_and_logs_shares(tiny: dict[str, Any]) -> None:
    settings = ("trainer.log_every_n_steps=4", "optimizer.lr=0.05")
    plain = experiments.run(tiny, *settings, "run_dir=plain")
    measured = experiments.run(tiny, *settings, "trainer.measure=[mistake_gradients]", "run_dir=measured")
    curves = read_curves(measured.run_dir, "step")
    assert curves["train/loss"] == read_curves(plain.run_dir, "step")["train/loss"]
    assert [step for step, _ in curves["train/confident_mistakes"]] == [4, 8, 12]
    assert all(0 <= share <= 1 for _, share in curves["train/confident_mistakes"])
    assert all(0 < norm <= math.sqrt(2) for _, norm in curves.get("train/mistake_gradient", []))


def test_a_model_that_is_no_classifier_is_refused(work: Path) -> None:
    config = {"model": {"name": "char_rnn"}, "data": {"name": "hello"}, "run_dir": "run"}
    with pytest.raises(UserError, match=r"needs a classifier without a teacher, but model\.name is char_rnn"):
        experiments.run(config, "trainer.measure=[mistake_gradients]")
    assert not (work / "run").exists()

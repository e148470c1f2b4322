"""A plateau is said once, in one line."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import experiments
from experiments.callbacks.plateau import VALIDATIONS, Plateau


def validate(plateau: Plateau, score: float, epoch: int = 0) -> None:
    trainer: Any = SimpleNamespace(
        callback_metrics={"val/loss": torch.tensor(score)},
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
        current_epoch=epoch,
    )
    plateau.on_validation_end(trainer, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "scores"), [("min", [3.0, 2.0, 2.5]), ("max", [1.0, 2.0, 1.5])])
def test_it_is_said_once_after_five_validations_without_an_improvement(
    mode: str, scores: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    plateau = Plateau("val/loss", mode)
    for epoch, score in enumerate([*scores, *[scores[-1]] * (VALIDATIONS - 2)]):
        validate(plateau, score, epoch)
    assert capsys.readouterr().out == ""
    for _ in range(3):
        validate(plateau, scores[-1])
    assert capsys.readouterr().out == (
        "plateau: no better val/loss in the last 5 validations; the best was 2 in epoch 2\n"
    )
    validate(plateau, 1.0 if mode == "min" else 3.0)
    for _ in range(VALIDATIONS):
        validate(plateau, 2.0)
    assert capsys.readouterr().out.startswith("plateau: ")


def test_a_resumed_fit_counts_on(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = Plateau("val/loss", "min"), Plateau("val/loss", "min")
    for _ in range(VALIDATIONS):
        validate(first, 1.0)
    second.load_state_dict(first.state_dict())
    validate(second, float("nan"))
    assert "the best was 1 in epoch 1" in capsys.readouterr().out


def test_a_metric_that_is_never_a_number_has_no_best(capsys: pytest.CaptureFixture[str]) -> None:
    plateau = Plateau("val/loss", "min")
    for _ in range(VALIDATIONS):
        validate(plateau, float("nan"))
    assert capsys.readouterr().out == ""


def test_a_fit_says_it(tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    still = {**tiny, "optimizer": {"name": "sgd", "lr": 1e-30}}
    experiments.run({**still, "trainer": {**tiny["trainer"], "max_epochs": 7}})
    assert capsys.readouterr().out.count("plateau: ") == 1

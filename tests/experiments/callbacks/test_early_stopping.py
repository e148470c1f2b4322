"""Early stopping says in one line why the fit has ended."""

import math
from typing import Any

import pytest
import torch

import experiments
from experiments.callbacks.early_stopping import EarlyStopping


def stop(tiny: dict[str, Any], **settings: Any) -> Any:
    trainer = {**tiny["trainer"], "early_stopping_patience": 2, "max_epochs": 9}
    return experiments.run({**tiny, **settings, "trainer": trainer})


def test_the_line_names_the_metric_the_wait_and_the_best(
    tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = stop(tiny, optimizer={"name": "sgd", "lr": 1e-30})
    lines = [line for line in capsys.readouterr().out.splitlines() if "stopped early" in line]
    best = f"{result.metrics['val/loss']:.4g}"
    assert lines == [f"stopped early: no better val/loss in the last 2 validations; the best was {best}"]


def test_a_fit_that_goes_to_its_end_says_nothing(
    tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = {**tiny["trainer"], "early_stopping_patience": 9}
    experiments.run({**tiny, "trainer": trainer})
    assert "stopped early" not in capsys.readouterr().out


def test_a_metric_that_is_not_finite_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for earlier, said in (([0.5], "; the best was 0.5"), ([], "")):
        callback = EarlyStopping("val/loss", patience=3)
        for score in (*earlier, math.nan):
            callback._evaluate_stopping_criteria(torch.tensor(score))
        callback.on_train_end(None, None)  # type: ignore[arg-type]
        assert capsys.readouterr().out == f"stopped early: val/loss is not finite{said}\n"

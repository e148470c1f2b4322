"""The curves by class and by confidence are those of the module's own logits on the test split."""

from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from experiments.config.check import load_config
from experiments.errors import UserError
from experiments.training.build import build_data
from experiments.training.curve_file import read_curves


def test_the_curves_are_those_of_the_logits(tiny: dict[str, Any]) -> None:
    config = [tiny, "trainer.measure=[class_curves]", {"metrics": {"macro_f1": {}, "auc": {}, "ece": {}}}]
    result = experiments.run(*config, "run_dir=run")
    batches = list(build_data(load_config(*config)).test_dataloader())
    with torch.no_grad():
        logits = torch.cat([result.module(images) for images, _ in batches])  # type: ignore[misc]
    targets = torch.cat([targets for _, targets in batches])
    confidence, predicted = logits.softmax(1).max(1)
    right = (predicted == targets).float()
    curves = read_curves(Path("run"))
    recalls = [right[targets == c].mean().item() for c in range(10)]
    assert curves["test/recall_by_class"] == [(c, pytest.approx(recalls[c])) for c in range(10)]
    place = (confidence * 10).long().clamp(max=9)
    expected = [(10 * b + 5, pytest.approx(right[place == b].mean().item())) for b in place.unique().tolist()]
    assert curves["test/accuracy_by_confidence"] == expected
    weights = place.bincount(minlength=10) / len(place)
    assert sum(weights[(x - 5) // 10] * y for x, y in curves["test/accuracy_by_confidence"]) == pytest.approx(
        result.metrics["test/accuracy"]
    )
    assert {"val/macro_f1", "test/auc", "test/ece"} <= result.metrics.keys()


def test_a_model_without_classes_is_refused(work: Path) -> None:
    config = {"model": {"name": "char_rnn"}, "data": {"name": "hello"}, "run_dir": "run"}
    with pytest.raises(UserError, match=r"class_curves needs a classifier, but model.name is char_rnn"):
        experiments.run(config, "trainer.measure=[class_curves]")
    with pytest.raises(UserError, match=r"metrics\.auc: char_rnn predicts no classes; remove this metric"):
        experiments.run(config, {"metrics": {"auc": {}}})

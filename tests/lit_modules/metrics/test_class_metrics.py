"""The metrics of a config against scikit-learn, and against the definition of the calibration error."""

from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import f1_score

from lit_modules.metrics.class_metrics import CalibrationError, MacroF1

INFO = SimpleNamespace(class_names=tuple("abcd"))
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(211, 4, generator=GENERATOR)
TARGETS = torch.randint(4, (211,), generator=GENERATOR)


def test_macro_f1_is_that_of_scikit_learn() -> None:
    metric = MacroF1(INFO)
    for part in torch.arange(211).split(50):
        metric.update(LOGITS[part], TARGETS[part])
    expected = f1_score(TARGETS, LOGITS.argmax(1), average="macro")
    assert metric.compute().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_the_calibration_error_is_the_weighted_distance_of_each_bin(bins: int, scale: float) -> None:
    """Logits between 0 and 1 are logits too; the library would take them for probabilities."""
    logits = scale * (LOGITS - LOGITS.min())
    metric = CalibrationError(INFO, bins=bins)
    for part in torch.arange(211).split(50):
        metric.update(logits[part], TARGETS[part])
    confidence, predicted = logits.softmax(1).max(1)
    right = (predicted == TARGETS).float()
    place = (confidence * bins).long().clamp(max=bins - 1)
    expected = sum(
        abs(float(right[place == b].mean() - confidence[place == b].mean())) * int((place == b).sum()) / 211
        for b in place.unique().tolist()
    )
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)

"""Metrics of a classifier that count every class equally, or that judge its probabilities."""

from typing import Any

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassCalibrationError, MulticlassF1Score


def macro_f1(info: Any) -> Metric:
    """Return the unweighted mean over the classes of the data of the F1 score."""
    return MulticlassF1Score(len(info.class_names), average="macro", validate_args=False)


def calibration_error(info: Any, *, bins: int = 15) -> Metric:
    """Return the expected calibration error (ECE): the mean of |accuracy − confidence| over bins.

    The confidence is the probability of the predicted class. Bins of equal width are weighted by their
    samples. Source: Guo et al., "On Calibration of Modern Neural Networks" (2017), eq. 3.
    """
    return _CalibrationErrorOfLogits(len(info.class_names), n_bins=bins, norm="l1", validate_args=False)


class _CalibrationErrorOfLogits(MulticlassCalibrationError):
    """The library guesses from the values whether it was given logits or probabilities."""

    def update(self, logits: Tensor, targets: Tensor) -> None:  # type: ignore[override]
        """Add a batch of logits (B, K) and targets (B,)."""
        super().update(logits.softmax(-1), targets)

"""Metrics of a classifier that count every class equally, or that judge its probabilities."""

from typing import Any

from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError, MulticlassF1Score


class MacroF1(MulticlassF1Score):
    """The unweighted mean of the F1 scores of all classes.

    Args:
        info: The description of the data, which names the classes.
    """

    def __init__(self, info: Any) -> None:
        super().__init__(len(info.class_names), average="macro", validate_args=False)


class CalibrationError(MulticlassCalibrationError):
    """The expected calibration error (ECE): the mean of |accuracy − confidence| over bins of the confidence.

    The confidence is the probability of the predicted class. Bins have equal widths, and weights in
    proportion to their samples. Source: Guo et al., "On Calibration of Modern Neural Networks" (2017), eq. 3.

    Args:
        info: The description of the data, which names the classes.
        bins: Number of bins.
    """

    def __init__(self, info: Any, *, bins: int = 15) -> None:
        super().__init__(len(info.class_names), n_bins=bins, norm="l1", validate_args=False)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch of logits (B, K). The library would take values in [0, 1] for probabilities."""
        super().update(logits.softmax(-1), targets)

"""Schemas of the metrics that a config can add; importing them imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class MacroF1Config:
    """The unweighted mean over the classes of the F1 score. It has no settings."""


@dataclass(kw_only=True)
class AUCConfig:
    """The mean area under the ROC curve of one class against all others. It has no settings."""


@dataclass(kw_only=True)
class CalibrationErrorConfig:
    """The expected calibration error: the mean of |accuracy − confidence| over bins of the confidence."""

    bins: int = setting(15, "Number of bins of equal width.", min=1, max=10000)

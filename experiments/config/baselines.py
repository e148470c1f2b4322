"""Schemas of the baselines; importing them imports neither torch nor scikit-learn."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class LogisticRegressionConfig:
    """Multinomial logistic regression, fitted by L-BFGS."""

    inverse_penalty: float = setting(
        1.0, "How weak the squared penalty on the weights is (scikit-learn's C).", above=0
    )
    max_iterations: int = setting(100, "Steps of L-BFGS; a fit that needs more reports converged = 0.", min=1)


@dataclass(kw_only=True)
class LinearRegressionConfig:
    """Ridge regression in closed form: on the targets, or on one-hot classes whose largest is the answer."""

    penalty: float = setting(1.0, "Factor of the squared penalty on the weights.", above=0)


@dataclass(kw_only=True)
class KNearestNeighborsConfig:
    """The majority among the nearest training samples by Euclidean distance."""

    neighbors: int = setting(3, "How many of them vote.", min=1)


@dataclass(kw_only=True)
class MajorityClassConfig:
    """Always the training set's most frequent class; nothing of it can be set."""


@dataclass(kw_only=True)
class BagOfWordsConfig(LogisticRegressionConfig):
    """Logistic regression on the words of a text, whatever their order.

    A word's weight in a text is (1 + ln(its count)) · (1 + ln((1 + N) / (1 + texts that have it))), N being
    the number of training texts; each text's weights are then scaled to length 1. Words that no training
    text has are left out.
    """


@dataclass(kw_only=True)
class MeanTargetConfig:
    """Always the mean of the training set's real targets; nothing of it can be set."""

"""Schemas of the baselines; this module imports neither torch nor scikit-learn."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class LogisticRegressionConfig:
    """Multinomial logistic regression, fitted by L-BFGS."""

    inverse_penalty: float = setting(
        1.0, "Inverse strength of the squared penalty on the weights (scikit-learn's C).", above=0, max=1e12
    )
    max_iterations: int = setting(
        100,
        "Largest number of L-BFGS steps; a fit that needs more reports converged = 0.",
        min=1,
        max=1000000,
    )


@dataclass(kw_only=True)
class LinearRegressionConfig:
    """Ridge regression in closed form; classes are one-hot targets, and the largest output is the answer."""

    penalty: float = setting(1.0, "Factor of the squared penalty on the weights.", above=0, max=1e12)


@dataclass(kw_only=True)
class KNearestNeighborsConfig:
    """The majority class of the nearest training samples by Euclidean distance."""

    neighbors: int = setting(3, "Number of neighbours that vote.", min=1, max=1000000)


@dataclass(kw_only=True)
class MajorityClassConfig:
    """The most frequent class of the training set, for every input. It has no settings."""


@dataclass(kw_only=True)
class BagOfWordsConfig(LogisticRegressionConfig):
    """Logistic regression on the word counts of a text (tf-idf with sublinear counts).

    The weight of a word in a text is (1 + ln n) · (1 + ln((1 + N) / (1 + d))): n is its count in the text, N
    the number of training texts, and d the number of them with this word. The weights of a text are scaled
    to length 1. Words that no training text has are ignored.
    """


@dataclass(kw_only=True)
class MeanTargetConfig:
    """The mean of the training targets, for every input. It has no settings."""


@dataclass(kw_only=True)
class GridSearchConfig:
    """The best w of a grid in y = w x, by mean squared error on the training rows. It uses no gradient.

    Each trial is a point of its curve `train/loss`.
    """

    low: float = setting(0.0, "Smallest w to try.", min=-1e6, max=1e6)
    high: float = setting(4.0, "Largest w to try.", min=-1e6, max=1e6)
    trials: int = setting(41, "Number of values of w, equally spaced.", min=2, max=100000)

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low: {self.low} must be less than high, {self.high}")

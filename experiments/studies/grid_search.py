"""A line y = w x by trial: the best w of a grid, without a gradient."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.errors import UserError

Array = NDArray[Any]


class GridSearch:
    """Try equally spaced values of w; the best has the smallest mean squared error.

    It has scikit-learn's methods and names, as the other baselines do.

    Attributes:
        grid: The values of w.
        losses: The mean squared error of each, after `fit`.
        coef_: The best w, (1, 1), after `fit`.
        intercept_: None, so an empty array.

    Args:
        low: Smallest w.
        high: Largest w.
        trials: Number of values.
    """

    def __init__(self, *, low: float, high: float, trials: int) -> None:
        self.grid = np.linspace(low, high, trials)
        self.losses: Array = np.empty(0)
        self.intercept_: Array = np.empty(0)

    def fit(self, x: Array, y: Array) -> None:
        """Try all values on inputs (N, 1) and targets (N, 1).

        Raises:
            UserError: The data has more than one input or target.
        """
        if x.shape[1:] != (1,) or y.shape[1:] != (1,):
            raise UserError(
                "grid_search needs one feature and one target, but the data has "
                f"{x[0].size} and {y[0].size}; use linear_regression"
            )
        self.losses = np.array([np.mean((w * x - y) ** 2) for w in self.grid])
        self.coef_ = self.grid[self.losses.argmin()].reshape(1, 1)

    def predict(self, x: Array) -> Array:
        """Return w x for inputs (N, 1)."""
        return x * self.coef_

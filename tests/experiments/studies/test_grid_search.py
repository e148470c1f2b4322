import numpy as np
import pytest

from experiments.errors import UserError
from experiments.studies.grid_search import GridSearch


def test_it_finds_the_best_value_of_the_grid() -> None:
    x = np.array([[1.0], [2.0], [3.0]])
    search = GridSearch(low=0, high=4, trials=5)
    search.fit(x, 2.2 * x)
    assert search.losses == pytest.approx([(w - 2.2) ** 2 * 14 / 3 for w in range(5)])
    assert search.predict(x).tolist() == [[2.0], [4.0], [6.0]]
    assert search.coef_.size + search.intercept_.size == 1


def test_a_wide_table_is_refused() -> None:
    with pytest.raises(UserError, match=r"has 2 and 1; use linear_regression"):
        GridSearch(low=0, high=4, trials=5).fit(np.zeros((3, 2)), np.zeros((3, 1)))

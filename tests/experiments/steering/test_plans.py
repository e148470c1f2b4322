import math

from experiments.steering.plans import over_seeds


def test_values_are_averaged_over_the_seeds_of_one_method() -> None:
    values = {"l2s/0": [1.0, 2.0], "l2s_shuffled/0": [9.0, 9.0], "l2s/1": [3.0, math.nan]}
    first, second = over_seeds(values, "l2s")
    assert first == 2
    assert math.isnan(second)

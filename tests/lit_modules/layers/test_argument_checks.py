import pytest

from lit_modules.layers.argument_checks import (
    LayerImplementation,
    check_choice,
    check_positive,
    check_probability,
)


def test_a_choice_outside_the_list_is_named_with_the_list():
    check_choice("implementation", "by_hand", LayerImplementation)
    with pytest.raises(ValueError, match="implementation is 'fast', expected one of 'fused', 'by_hand'"):
        check_choice("implementation", "fast", LayerImplementation)


def test_a_size_below_one_is_named():
    check_positive(depth=1, width=2)
    with pytest.raises(ValueError, match="width is 0, expected at least 1"):
        check_positive(depth=1, width=0)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_outside_its_range_is_named(rate: float):
    check_probability("dropout", 0.0)
    with pytest.raises(ValueError, match="dropout is"):
        check_probability("dropout", rate)

import pytest

from lit_modules.layers.argument_checks import LayerImplementation, check_choice, check_probability


def test_a_choice_outside_the_list_is_named_with_the_list():
    check_choice("implementation", "by_hand", LayerImplementation)
    with pytest.raises(ValueError, match="implementation is 'fast', expected one of 'fused', 'by_hand'"):
        check_choice("implementation", "fast", LayerImplementation)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_outside_its_range_is_named(rate: float):
    check_probability("dropout", 0.0)
    with pytest.raises(ValueError, match="dropout is"):
        check_probability("dropout", rate)

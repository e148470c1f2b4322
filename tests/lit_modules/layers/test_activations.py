"""A name gives the activation of that formula."""

import math

import pytest
import torch

from lit_modules.layers.activations import make_activation

FORMULAS = {
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", list(FORMULAS))
def test_it_is_the_formula_and_has_a_gradient_behind_another_layer(name: str) -> None:
    values = [-30.0, -1.5, -1e-4, 0.0, 0.7, 30.0]
    x = torch.tensor(values, dtype=torch.float64)
    expected = torch.tensor([FORMULAS[name](v) for v in values], dtype=torch.float64)
    torch.testing.assert_close(make_activation(name)(x.clone()), expected)
    linear = torch.nn.Linear(4, 4)
    make_activation(name)(linear(torch.randn(2, 4))).sum().backward()  # in place or not
    assert linear.weight.grad is not None


def test_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"'mish', expected one of 'relu', 'gelu', 'silu', 'sigmoid', 'tanh'"
    ):
        make_activation("mish")

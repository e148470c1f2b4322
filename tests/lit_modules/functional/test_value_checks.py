import pytest
import torch
from torch import Tensor

from lit_modules.functional.value_checks import (
    check_distribution,
    check_probabilities,
    refusing_unknown_classes,
)


@pytest.mark.parametrize("p", [torch.tensor([0.0, 0.5, 1.0]), torch.empty(0), torch.tensor(1.0)])
def test_takes_probabilities(p: Tensor) -> None:
    check_probabilities(p, "p")


@pytest.mark.parametrize("bad", [-0.1, 1.1, torch.nan, torch.inf])
def test_refuses_values_outside_zero_and_one(bad: float) -> None:
    with pytest.raises(ValueError, match=r"q must be probabilities in \[0, 1\]"):
        check_probabilities(torch.tensor([0.5, bad]), "q")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [1, 3, 1001])
def test_takes_every_softmax_as_a_distribution(dtype: torch.dtype, classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(4, classes, generator=generator, dtype=torch.float64)
    check_distribution(logits.to(dtype).softmax(-1), "p")


def test_takes_a_probability_that_rounding_put_above_one() -> None:
    check_distribution(torch.tensor([[1 + 1e-6, 0.0]]), "p")
    check_distribution(torch.empty(0, 3), "p")


@pytest.mark.parametrize(
    "p",
    [
        [[0.5, 0.4]],
        [[0.5, 0.5], [1.0, 1.0]],
        [[-0.5, 1.5]],
        [[torch.nan, 1.0]],
        [[2.0, -3.0]],
        [[0.0, 0.0]],
    ],
)
def test_refuses_rows_that_are_not_distributions(p: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="p must"):
        check_distribution(torch.tensor(p), "p")


def test_shows_the_range_of_unknown_classes_and_lets_other_errors_be() -> None:
    indices = torch.tensor([0, 7])
    with (
        pytest.raises(ValueError, match=r"\[0, 3\); got values from 0 to 7"),
        refusing_unknown_classes(indices, 3),
    ):
        torch.zeros(3)[indices]
    with pytest.raises(RuntimeError, match="must match"), refusing_unknown_classes(indices, 3):
        torch.zeros(3) + torch.zeros(4)

from typing import Any

import pytest
import torch

from datamodules.info import TableInfo
from lit_modules.configs.slope import SlopeConfig
from lit_modules.slope import Slope

LINE: dict[str, Any] = {
    "input_shape": (1,),
    "feature_names": ("x",),
    "mean": (0.0,),
    "std": (1.0,),
    "target_names": ("y",),
    "target_mean": (0.0,),
    "target_std": (1.0,),
}
X = torch.tensor([[1.0], [2.0], [3.0]])


@pytest.mark.parametrize("implementation", ["fused", "by_hand"])
def test_the_gradient_is_the_derivative_on_paper(implementation: Any) -> None:
    """At w = 1: mean of 2 x (x - 2x) = -2 (1 + 4 + 9) / 3."""
    model = Slope(SlopeConfig(implementation=implementation), TableInfo(**LINE))
    loss = model.training_step((X, 2 * X), 0)["loss"]
    (3 * loss).backward()
    assert loss.item() == pytest.approx(14 / 3)
    assert model.network.weight.grad is not None
    assert model.network.weight.grad.item() == pytest.approx(-3 * 28 / 3)


def test_evaluation_is_the_squared_error_of_each_row() -> None:
    model = Slope(SlopeConfig(initial=3.0), TableInfo(**LINE))
    assert model.evaluation_step((X, 2 * X), 0, "val")["losses"].tolist() == [1, 4, 9]
    assert model.progress_note() == "w = 3.0000"


def test_a_wide_table_is_refused() -> None:
    wide = TableInfo(**{**LINE, "feature_names": ("a", "b"), "input_shape": (2,)})
    with pytest.raises(ValueError, match=r"has 2 and 1; use model.name=table_regression"):
        Slope(SlopeConfig(), wide)

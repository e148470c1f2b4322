import pytest
import torch
from sklearn.metrics import r2_score

from datamodules.info import TableInfo
from lit_modules.configs.table import TableRegressionConfig
from lit_modules.table_regression import TableRegression

INFO = TableInfo(
    input_shape=(2,),
    feature_names=("a", "b"),
    mean=(0.0, 0.0),
    std=(1.0, 1.0),
    target_names=("y",),
    target_mean=(100.0,),
    target_std=(20.0,),
)


def test_loss_and_r2_are_in_the_units_of_the_data() -> None:
    torch.manual_seed(0)
    plain = TableRegression(TableRegressionConfig(), INFO)
    scaled = TableRegression(TableRegressionConfig(normalize_targets=True), INFO)
    scaled.load_state_dict(plain.state_dict())
    rows, targets = torch.randn(9, 2), 100 + 20 * torch.randn(9, 1)
    torch.testing.assert_close(scaled(rows), 100 + 20 * plain(rows))
    out = scaled.evaluation_step((rows, targets), 0, "test")
    torch.testing.assert_close(out["losses"].mean(), torch.nn.functional.mse_loss(scaled(rows), targets))
    scaled.test_metrics["r2"].update(out["logits"], targets)
    expected = r2_score(targets.numpy(), scaled(rows).detach().numpy())
    assert scaled.test_metrics["r2"].compute().item() == pytest.approx(expected, rel=1e-4)


def test_the_gradient_is_the_hand_derived_one() -> None:
    """For y = w x + b: dL/dw = mean(2 (w x + b - t) x)."""
    torch.manual_seed(0)
    model = TableRegression(TableRegressionConfig(), INFO)
    rows, targets = torch.randn(9, 2), torch.randn(9, 1)
    out = model.training_step((rows, targets), 0)
    out["loss"].backward()
    expected = (2 * (out["logits"] - targets) * rows).mean(0)
    torch.testing.assert_close(model.network.head.weight.grad[0], expected)

"""The horizon of a schedule is the number of optimizer steps that a fit takes."""

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Metric
from torchmetrics.classification import BinaryAccuracy

from datamodules.info import DataInfo
from lit_modules.base import LitModule, Stage
from lit_modules.configs.optim import OneCycleConfig, SGDConfig


class Data(L.LightningDataModule):
    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.ones(22, 3)), batch_size=2)


class Model(LitModule):
    def __init__(self, **optim: Any) -> None:
        super().__init__(None, DataInfo(), **optim)
        self.network = nn.Linear(3, 1)
        self.horizon: tuple[int, int] | None = None

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        self.horizon = self.steps_per_epoch(), self.total_steps()
        return {"loss": self.network(batch[0]).square().mean()}


class Evaluated(Model):
    """Also measures how often an output has the sign of its target."""

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        return {**super().build_metrics(stage), "sign": BinaryAccuracy()}

    def evaluation_step(self, batch: Any, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        (inputs,) = batch
        logits = self.network(inputs)[:, 0]
        return {
            "losses": logits.square(),
            "logits": (logits > 0).long(),
            "targets": (inputs[:, 0] > 0).long(),
        }


@pytest.mark.parametrize("stage", ["val", "test"])
def test_losses_go_to_the_mean_and_predictions_to_every_other_metric(stage: str) -> None:
    model, rows = Evaluated(), torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", **quiet)
    run = trainer.validate if stage == "val" else trainer.test
    for _ in range(2):  # the second pass shows that the first left nothing behind
        (logged,) = run(model, DataLoader(TensorDataset(rows), batch_size=3), verbose=False)
        logits = model(rows)[:, 0].detach()
        assert logged == {
            f"{stage}/loss": pytest.approx(logits.square().mean().item()),
            f"{stage}/sign": pytest.approx(((logits > 0) == (rows[:, 0] > 0)).float().mean().item()),
        }


def test_data_without_a_description_is_refused() -> None:
    with pytest.raises(ValueError, match="LitModule can't learn from data of the kind 'dict'"):
        LitModule(None, {})


def test_a_loss_that_is_no_number_is_reported_as_such() -> None:
    metric = Model().val_metrics["loss"]
    metric.update(torch.tensor([1.0, torch.nan]))
    assert metric.compute().isnan()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 2},
        {"max_epochs": 2, "accumulate_grad_batches": 3},
        {"max_epochs": 3, "limit_train_batches": 4},
        {"max_epochs": 3, "limit_train_batches": 0.5},
        {"max_epochs": 3, "max_steps": 7},
        {"max_epochs": -1, "max_steps": 25, "accumulate_grad_batches": 4},
    ],
    ids=str,
)
def test_the_horizon_is_what_lightning_takes(options: dict[str, Any]) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)
    model = Model(optimizer=SGDConfig(lr=0.1), schedule=OneCycleConfig())
    trainer.fit(model, datamodule=Data())
    assert model.horizon is not None
    assert model.horizon[1] == trainer.global_step
    if "max_steps" not in options:
        assert model.horizon[0] == trainer.global_step / options["max_epochs"]


def test_without_a_schedule_the_rate_is_constant_and_without_an_optimizer_there_is_no_training() -> None:
    optimizer = Model(optimizer=SGDConfig(lr=0.25)).configure_optimizers()
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["lr"] == 0.25
    with pytest.raises(ValueError, match="Model has no optimizer config"):
        Model().configure_optimizers()

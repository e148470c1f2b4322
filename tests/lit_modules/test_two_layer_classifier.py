import copy
from typing import Any

import pytest
import torch

from datamodules.configs.table import TableConfig
from datamodules.info import LabelledTableInfo
from datamodules.table import TableDataModule
from experiments.config.check import load_config
from experiments.training.build import build_model
from lit_modules.optim.optimizers import build_optimizer


def curve(implementation: str) -> list[float]:
    """Train the published study for five epochs in fp64; return the loss of each step."""
    config = load_config("configs/from_scratch.yaml").children[0].config
    data = TableDataModule(TableConfig(path="breast_cancer"), seed=0)
    data.setup("fit")
    assert isinstance(data.info, LabelledTableInfo)
    settings = copy.deepcopy(config)
    settings.model.config.implementation = implementation
    torch.manual_seed(0)
    module: Any = build_model(settings, data.info).double()
    optimizer = build_optimizer(module, settings.optimizer.config)
    losses = []
    for _ in range(5):
        for index, (rows, targets) in enumerate(data.train_dataloader()):
            loss = module.training_step((rows.double(), targets), index)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def test_numpy_our_functions_and_autograd_have_the_same_loss_curve() -> None:
    expected = curve("fused")
    assert expected[-1] < 0.5 * expected[0]
    for implementation in ("by_hand", "numpy"):
        assert curve(implementation) == pytest.approx(expected, rel=0, abs=1e-6)

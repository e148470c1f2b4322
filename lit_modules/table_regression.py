"""Regression on table rows: a linear model, or a multilayer perceptron."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from datamodules.info import TableInfo
from lit_modules.base import LitModule, Stage
from lit_modules.configs.objective import MSEConfig
from lit_modules.configs.table import TableRegressionConfig
from lit_modules.functional.precision import widen
from lit_modules.functional.regression import mse
from lit_modules.metrics.vector_metrics import VectorR2
from lit_modules.networks.mlp import MLP
from lit_modules.objective import MeanSquaredError, Objective

Batch = tuple[Tensor, Tensor]


class TableRegression(LitModule):
    """A model from rows (B, D) to targets (B, T).

    Evaluation logs the mean squared error per target as the loss, and R² over all rows of the epoch.
    """

    dashboard = "regression"
    info_type = TableInfo
    data_names = ("table",)

    config: TableRegressionConfig
    info: TableInfo
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, config: TableRegressionConfig, info: TableInfo, **training: Any) -> None:
        super().__init__(config, info, **training)
        self.network = MLP(
            input_shape=info.input_shape,
            num_outputs=len(info.target_names),
            hidden=config.hidden,
            activation=config.activation,
            norm=config.norm,
            weight_init=config.weight_init,
            residual=config.residual,
            dropout=config.dropout,
            implementation=config.implementation,
        )
        self.register_buffer("target_mean", torch.tensor(info.target_mean), persistent=False)
        self.register_buffer("target_std", torch.tensor(info.target_std), persistent=False)
        self.example_input_array = torch.zeros(1, *info.input_shape)

    @staticmethod
    def default_objective() -> Objective:
        """Return the mean squared error."""
        return MeanSquaredError(MSEConfig())

    def forward(self, rows: Tensor) -> Tensor:  # type: ignore[override]
        """Predict targets (B, T), in the units of the data."""
        outputs = widen(self.network(rows))
        return outputs * self.target_std + self.target_mean if self.config.normalize_targets else outputs

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Build the metrics: mean squared error as the loss, and R²."""
        return {**super().build_metrics(stage), "r2": VectorR2(max(self.info.target_std))}

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the objective on one batch."""
        rows, targets = batch
        predicted = self(rows)
        return {"loss": self.objective(predicted, targets), "logits": predicted.detach(), "targets": targets}

    def evaluation_step(self, batch: Batch, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        """Return the mean squared errors (B,), the predictions (B, T) and the targets (B, T)."""
        rows, targets = batch
        predicted = self(rows)
        errors = mse(predicted, targets, reduction="none").mean(-1)  # (B,)
        return {"losses": errors, "logits": predicted, "targets": targets}

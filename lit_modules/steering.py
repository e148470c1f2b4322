"""Learned steering: predict the steering vector of a prompt from its hidden state."""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from datamodules.info import VectorPairInfo
from lit_modules.base import LitModule, Stage
from lit_modules.configs.objective import MSEConfig
from lit_modules.configs.steering import SteeringConfig
from lit_modules.functional.precision import widen
from lit_modules.functional.regression import mse
from lit_modules.metrics.vector_metrics import MeanCosine, VectorR2
from lit_modules.networks.steering_mlp import SteeringMLP
from lit_modules.objective import MeanSquaredError, Objective

Batch = tuple[Tensor, Tensor]


class Steering(LitModule):
    """A `SteeringMLP` from hidden states h (B, D) to vectors z (B, D).

    A batch is (h, z). Evaluation logs the mean squared error per entry as the loss, for every objective, so
    that losses are comparable. It also logs R² and the mean cosine over all pairs of the epoch.

    Raises:
        ValueError: The data has no pairs of vectors, or all training targets are zero.

    Source: Parekh et al. 2025, "Learning to Steer" (arXiv 2508.12815), formula 8.
    """

    dashboard = "regression"
    info_type = VectorPairInfo
    data_names = ("steering_pairs",)

    config: SteeringConfig
    info: VectorPairInfo

    def __init__(self, config: SteeringConfig, info: VectorPairInfo, **training: Any) -> None:
        super().__init__(config, info, **training)
        if not info.target_scale:
            raise ValueError("all training targets are zero vectors, so there is nothing to learn")
        (width,) = info.input_shape
        usual_length = info.target_scale * math.sqrt(width)
        self.network = SteeringMLP(
            width=width,
            hidden=config.hidden,
            activation=config.activation,
            skip=config.skip,
            hidden_bias=config.hidden_bias,
            dropout=config.dropout,
            implementation=config.implementation,
            input_mean=info.mean if config.normalize_inputs else None,
            input_std=info.std if config.normalize_inputs else None,
            output_scale=info.target_scale if config.normalize_targets else 1.0,
            min_length=config.min_length * usual_length,
            equal_length=usual_length if config.equal_length else None,
        )
        self.example_input_array = torch.zeros(1, width)

    @staticmethod
    def default_objective() -> Objective:
        """Return the mean squared error."""
        return MeanSquaredError(MSEConfig())

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Build the metrics: mean squared error as the loss, R² and mean cosine."""
        r2 = VectorR2(self.info.target_scale)
        return {**super().build_metrics(stage), "r2": r2, "cosine": MeanCosine()}

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the objective on one batch."""
        states, targets = batch
        predicted = widen(self.network(states))
        loss = self.objective(predicted, targets)
        return {"loss": loss, "logits": predicted.detach(), "targets": targets}

    def evaluation_step(self, batch: Batch, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        """Return the mean squared errors (B,), the predicted vectors (B, D) and the targets (B, D)."""
        states, targets = batch
        predicted = widen(self.network(states))
        errors = mse(predicted, targets, reduction="none").mean(-1)  # (B,)
        return {"losses": errors, "logits": predicted, "targets": targets}

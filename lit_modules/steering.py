"""Learned steering: guesses from a prompt's hidden state which vector would steer the prompt."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from datamodules.info import VectorPairInfo
from lit_modules.base import LitModule
from lit_modules.configs.steering import SteeringConfig
from lit_modules.functional.precision import widen
from lit_modules.functional.regression import mse, mse_l1_cosine
from lit_modules.metrics.vector_metrics import MeanCosine, VectorR2
from lit_modules.networks.steering_mlp import SteeringMLP

Batch = tuple[Tensor, Tensor]


class Steering(LitModule):
    """A `SteeringMLP` from hidden states h (B, D) to vectors z (B, D).

    A batch is (h, z). Evaluation logs the mean squared error per entry as the loss, whatever was trained to
    go down, so that losses compare; R² and the mean cosine, each over all pairs of the epoch.

    Args:
        config: The network and its objective.
        info: The pairs' description.
        optimizer: See `LitModule`.
        schedule: See `LitModule`.

    Raises:
        ValueError: The data has no pairs of vectors, or all training targets are zero.

    Source: Parekh et al. 2025, "Learning to Steer" (arXiv 2508.12815), formula 8.
    """

    info_type = VectorPairInfo
    data_names = ("steering_pairs",)

    config: SteeringConfig
    info: VectorPairInfo

    def __init__(
        self, config: SteeringConfig, info: VectorPairInfo, *, optimizer: Any = None, schedule: Any = None
    ) -> None:
        super().__init__(config, info, optimizer=optimizer, schedule=schedule)
        if not info.target_scale:
            raise ValueError("all training targets are zero vectors, so there is nothing to learn")
        (width,) = info.input_shape
        self.network = SteeringMLP(
            width=width,
            hidden=config.hidden,
            activation=config.activation,
            skip=config.skip,
            hidden_bias=config.hidden_bias,
            dropout=config.dropout,
            input_mean=info.mean if config.normalize_inputs else None,
            input_std=info.std if config.normalize_inputs else None,
            output_scale=info.target_scale if config.normalize_targets else 1.0,
            min_length=config.min_length * info.target_scale * math.sqrt(width),
        )
        self.example_input_array = torch.zeros(1, width)
        self.val_metrics, self.test_metrics = _metrics(width), _metrics(width)

    def forward(self, states: Tensor) -> Tensor:
        """Vectors (B, D) for hidden states (B, D)."""
        return self.network(states)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The objective on one batch; a callback records the curve."""
        states, targets = batch
        predicted = widen(self.network(states))
        loss = mse if self.config.loss == "mse" else mse_l1_cosine
        return {"loss": loss(predicted, targets), "logits": predicted.detach(), "targets": targets}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Error and direction of one batch's vectors, added to the epoch's."""
        return self._evaluate(batch, "val", self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Error and direction of one batch's vectors, added to the epoch's."""
        return self._evaluate(batch, "test", self.test_metrics)

    def _evaluate(self, batch: Batch, stage: str, metrics: nn.ModuleDict) -> dict[str, Tensor]:
        states, targets = batch
        predicted = widen(self.network(states))
        errors = mse(predicted, targets, reduction="none").mean(-1)  # (B,)
        for name, metric in metrics.items():
            assert isinstance(metric, MeanMetric | VectorR2 | MeanCosine)
            if isinstance(metric, MeanMetric):
                metric.update(errors)
            else:
                metric.update(predicted, targets)
            self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True)
        return {"loss": errors.mean(), "logits": predicted, "targets": targets}


def _metrics(width: int) -> nn.ModuleDict:
    # A NaN loss stays one in the mean: leaving it out would make a broken model look better.
    return nn.ModuleDict(
        {"loss": MeanMetric(nan_strategy="disable"), "r2": VectorR2(width), "cosine": MeanCosine()}
    )

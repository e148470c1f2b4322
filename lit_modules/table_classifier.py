"""The classifier of table rows: logistic regression, or a multilayer perceptron."""

from typing import Any

import torch
from torchmetrics import Metric

from datamodules.info import LabelledTableInfo
from lit_modules.base import Stage
from lit_modules.classifier import Classifier
from lit_modules.configs.table import TableClassifierConfig
from lit_modules.metrics.ranking_metrics import OneVsRestAUC
from lit_modules.networks.mlp import MLP


class TableClassifier(Classifier):
    """A classifier of rows (B, D).

    It also logs `auc`, the mean over classes of the area under the ROC curve. For two classes both areas are
    equal, so the mean is the usual area.
    """

    info_type = LabelledTableInfo
    data_names = ("table",)

    config: TableClassifierConfig
    info: LabelledTableInfo

    def __init__(self, config: TableClassifierConfig, info: LabelledTableInfo, **training: Any) -> None:
        super().__init__(config, info, **training)
        self.network = MLP(
            input_shape=info.input_shape,
            num_outputs=self.num_outputs,
            hidden=config.hidden,
            activation=config.activation,
            norm=config.norm,
            weight_init=config.weight_init,
            residual=config.residual,
            dropout=config.dropout,
            implementation=config.implementation,
        )
        self.example_input_array = torch.zeros(1, *info.input_shape)

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Add the area under the ROC curve."""
        return {**super().build_metrics(stage), "auc": OneVsRestAUC()}

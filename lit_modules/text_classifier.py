"""The text classifier: a transformer encoder from tokens to logits."""

from typing import Any

import torch
from torch import nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassF1Score

from datamodules.info import LabelledTextInfo
from lit_modules.base import Stage
from lit_modules.classifier import Classifier
from lit_modules.configs.text_classifier import TextClassifierConfig
from lit_modules.metrics.ranking_metrics import OneVsRestAUC
from lit_modules.networks.text_encoder import TextEncoder


class TextClassifier(Classifier):
    """A classifier of texts: tokens (B, T), padded at the end with −1, to logits (B, K).

    It logs two more metrics: `macro_f1`, the unweighted mean over classes of the F1 score, and `auc`, the
    unweighted mean over classes of the area under the ROC curve.

    A subclass uses its own network by overriding `build_network`.

    Raises:
        ValueError: The settings of the network do not fit together.
    """

    info_type = LabelledTextInfo
    data_names = ("play_passages",)

    config: TextClassifierConfig
    info: LabelledTextInfo

    def __init__(self, config: TextClassifierConfig, info: LabelledTextInfo, **training: Any) -> None:
        super().__init__(config, info, **training)
        self.network = self.build_network(config, info)
        self.example_input_array = torch.zeros(1, info.context_length, dtype=torch.long)

    def build_network(self, config: TextClassifierConfig, info: LabelledTextInfo) -> nn.Module:
        """Build the network. The constructor calls it once.

        Returns:
            A module with `forward`, from tokens (B, T) to outputs (B, `num_outputs`), and `features`, from
            tokens to the pooled encoding (B, W).
        """
        return TextEncoder(
            config,
            vocab_size=info.vocab_size,
            context_length=info.context_length,
            num_classes=self.num_outputs,
        )

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Add the macro F1 score and the area under the ROC curve."""
        f1 = MulticlassF1Score(len(self.info.class_names), average="macro", validate_args=False)
        return {**super().build_metrics(stage), "macro_f1": f1, "auc": OneVsRestAUC()}

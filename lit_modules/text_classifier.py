"""Text classification: a transformer encoder tells which class a text is of."""

from typing import Any

import torch
from torch import nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassF1Score

from datamodules.info import LabelledTextInfo
from lit_modules.classifier import Classifier
from lit_modules.configs.text_classifier import TextClassifierConfig
from lit_modules.metrics.ranking_metrics import OneVsRestAUC
from lit_modules.networks.pooled_transformer import build_text_encoder


class TextClassifier(Classifier):
    """Tells texts apart: tokens (B, T), padded behind with −1, to logits (B, K).

    Beside loss and accuracy it logs `macro_f1`, the mean over classes of the harmonic mean of precision and
    recall, in which a class counts as much whether it is frequent or rare, and `auc`, the mean over classes
    of the area under the ROC curve.

    A subclass brings its own network by overriding `build_network`.

    Args:
        config: The network and how it is regularised.
        info: The data's description.
        optimizer: See `LitModule`.
        schedule: See `LitModule`.

    Raises:
        ValueError: The data has no tokens or no classes, or the architecture's values don't fit together.
    """

    info_type = LabelledTextInfo
    data_names = ("play_passages",)

    config: TextClassifierConfig
    info: LabelledTextInfo

    def __init__(
        self,
        config: TextClassifierConfig,
        info: LabelledTextInfo,
        *,
        optimizer: Any = None,
        schedule: Any = None,
    ) -> None:
        super().__init__(config, info, optimizer=optimizer, schedule=schedule)
        self.network = self.build_network(config, info)
        self.example_input_array = torch.zeros(1, info.context_length, dtype=torch.long)

    def build_network(self, config: TextClassifierConfig, info: LabelledTextInfo) -> nn.Module:
        """Make the network; called once, by the constructor.

        Returns:
            A module whose `forward` maps tokens (B, T) to logits (B, K) and which has `features`, from
            the same tokens to the pooled encoding (B, W).
        """
        return build_text_encoder(
            config,
            vocab_size=info.vocab_size,
            context_length=info.context_length,
            num_classes=len(info.class_names),
        )

    def build_metrics(self) -> dict[str, Metric]:
        f1 = MulticlassF1Score(len(self.info.class_names), average="macro", validate_args=False)
        return {**super().build_metrics(), "macro_f1": f1, "auc": OneVsRestAUC()}

"""The two-layer classifier, whose backward pass can be PyTorch's, ours, or NumPy's."""

from typing import Any

import torch
from torch import Tensor

from datamodules.info import ImageInfo, LabelledTableInfo
from lit_modules.classifier import Batch, Classifier
from lit_modules.configs.two_layer_classifier import TwoLayerClassifierConfig
from lit_modules.networks.two_layer import TwoLayerNetwork


class TwoLayerClassifier(Classifier):
    """A classifier of table rows or images. Its network also computes the loss: mean cross-entropy."""

    dashboard: str | None = None
    info_type = ImageInfo | LabelledTableInfo
    data_names = ("table", "mnist", "fashion_mnist", "digits")

    config: TwoLayerClassifierConfig
    info: ImageInfo | LabelledTableInfo
    network: TwoLayerNetwork

    def __init__(
        self, config: TwoLayerClassifierConfig, info: ImageInfo | LabelledTableInfo, **training: Any
    ) -> None:
        super().__init__(config, info, **training)
        self.network = TwoLayerNetwork(
            input_shape=info.input_shape,
            num_outputs=len(info.class_names),
            hidden=config.hidden,
            implementation=config.implementation,
        )
        self.example_input_array = torch.zeros(1, *info.input_shape)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the cross-entropy of one batch."""
        inputs, targets = batch
        loss, logits = self.network.loss(inputs, targets)
        return {"loss": loss, "logits": logits.detach(), "targets": targets}

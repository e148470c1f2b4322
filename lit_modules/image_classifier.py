"""Image classification: a network, cross-entropy, accuracy."""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from lit_modules.base import LitModule
from lit_modules.image_classifier_config import ClassicCNNConfig, MLPConfig, ResidualCNNConfig
from lit_modules.layers.classic_cnn import ClassicCNN
from lit_modules.layers.mlp import MLP
from lit_modules.layers.residual_cnn import ResidualCNN

Batch = tuple[Tensor, Tensor]


class ImageInfo(Protocol):
    """What an image classifier needs to know of its data."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes, in the order of their indices."""


class ImageClassifier(LitModule):
    """Tells images apart: any network from images (B, C, H, W) to logits (B, K), trained by cross-entropy.

    A subclass brings its own network by overriding :meth:`build_network`; the rest, its dashboard included,
    stays as it is.

    Args:
        config: An :class:`ImageClassifierConfig`; its type chooses the network.
        info: The data's description.
        optimizer: See :class:`LitModule`.
        schedule: See :class:`LitModule`.
    """

    dashboard = "classification"

    def __init__(self, config: Any, info: ImageInfo, *, optimizer: Any = None, schedule: Any = None) -> None:
        super().__init__(config, info, optimizer=optimizer, schedule=schedule)
        self.network = self.build_network(config, info)
        if config.channels_last:
            # oneDNN follows the weights: convolutions then return channels-last maps for any input.
            self.network = self.network.to(memory_format=torch.channels_last)
        # A NaN loss stays one in the mean: leaving it out would make a broken model look better.
        self.val_loss, self.test_loss = (MeanMetric(nan_strategy="disable") for _ in range(2))
        self.val_accuracy, self.test_accuracy = (
            MulticlassAccuracy(len(info.class_names), average="micro", validate_args=False) for _ in range(2)
        )

    def build_network(self, config: Any, info: ImageInfo) -> nn.Module:
        """Make the network; called once, by the constructor.

        Args:
            config: The model's config.
            info: The data's description.

        Returns:
            A module whose ``forward`` maps images (B, C, H, W) to logits (B, K) and which has ``features``,
            from the same images to the penultimate activations (B, F).

        Raises:
            ValueError: The config is of a type that no network is known for, or does not fit the data.
        """
        shape, num_classes = info.input_shape, len(info.class_names)
        match config:
            case MLPConfig():
                return MLP(
                    image_shape=shape,
                    num_classes=num_classes,
                    hidden=config.hidden,
                    activation=config.activation,
                    batch_norm=config.batch_norm,
                    dropout=config.dropout,
                )
            case ResidualCNNConfig():
                return ResidualCNN(
                    image_shape=shape,
                    num_classes=num_classes,
                    widths=config.widths,
                    blocks=config.blocks,
                    stem_kernel=config.stem_kernel,
                    stem_stride=config.stem_stride,
                    pooling=config.pooling,
                    activation=config.activation,
                    dropout=config.dropout,
                )
            case ClassicCNNConfig():
                return ClassicCNN(image_shape=shape, num_classes=num_classes)
        raise ValueError(
            f"no network is known for a config of type {type(config).__name__}; override build_network"
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        return self.network(images)

    def features(self, images: Tensor) -> Tensor:
        """Penultimate activations (B, F) of images (B, C, H, W)."""
        return self.network.features(images)  # type: ignore[operator]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Cross-entropy against the smoothed targets; a callback records the curve."""
        images, targets = batch
        logits = _at_least_float32(self.network(images))
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        return {"loss": loss, "logits": logits.detach(), "targets": targets}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Loss and accuracy of one batch, added to the epoch's."""
        return self._evaluate(batch, "val", self.val_loss, self.val_accuracy)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Loss and accuracy of one batch, added to the epoch's."""
        return self._evaluate(batch, "test", self.test_loss, self.test_accuracy)

    def _evaluate(
        self, batch: Batch, stage: str, mean_loss: MeanMetric, accuracy: MulticlassAccuracy
    ) -> dict[str, Tensor]:
        images, targets = batch
        logits = _at_least_float32(self.network(images))
        losses = F.cross_entropy(logits, targets, reduction="none")  # (B,)
        mean_loss.update(losses)
        accuracy.update(logits, targets)
        self.log_dict(
            {f"{stage}/loss": mean_loss, f"{stage}/accuracy": accuracy}, on_step=False, on_epoch=True
        )
        return {"loss": losses.mean(), "logits": logits, "targets": targets}


def _at_least_float32(logits: Tensor) -> Tensor:
    """Lift logits of half precision, whose log-softmax would be too coarse."""
    return logits.float() if logits.dtype.itemsize < 4 else logits

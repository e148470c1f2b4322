"""The image classifier: any network from images to logits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from datamodules.info import ImageInfo
from lit_modules.classifier import Classifier
from lit_modules.configs.image_classifier import (
    ClassicCNNConfig,
    MLPConfig,
    ResidualCNNConfig,
    VisionTransformerConfig,
)
from lit_modules.networks.classic_cnn import ClassicCNN
from lit_modules.networks.mlp import MLP
from lit_modules.networks.residual_cnn import ResidualCNN
from lit_modules.networks.vision_transformer import VisionTransformer


class ImageClassifier(Classifier):
    """A classifier of images (B, C, H, W).

    A subclass uses its own network by overriding `build_network`; the rest, the dashboard included, stays.
    """

    info_type = ImageInfo
    data_names = ("mnist", "fashion_mnist", "digits", "image_folder")

    info: ImageInfo

    def __init__(self, config: Any, info: ImageInfo, **training: Any) -> None:
        super().__init__(config, info, **training)
        self.network = self.build_network(config, info)
        if config.channels_last:
            # oneDNN follows the weights: convolutions then return channels-last maps for any input.
            self.network = self.network.to(memory_format=torch.channels_last)

    def build_network(self, config: Any, info: ImageInfo) -> nn.Module:
        """Build the network. The constructor calls it once.

        Returns:
            A module with `forward`, from images (B, C, H, W) to outputs (B, `num_outputs`), and `features`,
            from images to the activations (B, F) before the last layer.

        Raises:
            ValueError: The type of the config is unknown, or the config does not fit the images.
        """
        return image_network(config, info.input_shape, self.num_outputs)


def image_network(config: Any, shape: Sequence[int], num_outputs: int) -> nn.Module:
    """Build the network of a config, from images of a shape (C, H, W) to outputs (B, `num_outputs`).

    Raises:
        ValueError: The type of the config is unknown, or the config does not fit the images.
    """
    match config:
        case MLPConfig():
            return MLP(
                input_shape=shape,
                num_outputs=num_outputs,
                hidden=config.hidden,
                activation=config.activation,
                norm=config.norm,
                weight_init=config.weight_init,
                residual=config.residual,
                dropout=config.dropout,
                implementation=config.implementation,
            )
        case ResidualCNNConfig():
            return ResidualCNN(
                image_shape=shape,
                num_classes=num_outputs,
                widths=config.widths,
                blocks=config.blocks,
                stem_kernel=config.stem_kernel,
                stem_stride=config.stem_stride,
                pooling=config.pooling,
                activation=config.activation,
                dropout=config.dropout,
                implementation=config.implementation,
            )
        case ClassicCNNConfig():
            return ClassicCNN(
                image_shape=shape, num_classes=num_outputs, implementation=config.implementation
            )
        case VisionTransformerConfig():
            return VisionTransformer(config, image_shape=shape, num_classes=num_outputs)
    raise ValueError(
        f"there is no network for a config of type {type(config).__name__}; override build_network"
    )

"""The encoder networks that a `VisionTransformerConfig` and a `TextClassifierConfig` describe."""

from collections.abc import Sequence

import torch.nn as nn

from lit_modules.configs.image_classifier import VisionTransformerConfig
from lit_modules.configs.text_classifier import TextClassifierConfig
from lit_modules.configs.transformer import TransformerConfig
from lit_modules.layers.initialisation import draw_weights
from lit_modules.networks.text_encoder import TextEncoder
from lit_modules.networks.transformer_options import transformer_options
from lit_modules.networks.vision_transformer import VisionTransformer


def build_vision_transformer(
    config: VisionTransformerConfig, *, image_shape: Sequence[int], num_classes: int
) -> VisionTransformer:
    """Builds the network with fresh weights; those of the patches are a convolution's.

    Args:
        config: The architecture and how fresh weights are drawn.
        image_shape: (C, H, W) of one image.
        num_classes: K.

    Raises:
        ValueError: values that don't fit together.
    """
    network = VisionTransformer(
        transformer_options(config),
        depth=config.depth,
        image_shape=image_shape,
        patch_size=config.patch_size,
        num_classes=num_classes,
        positions="none" if config.position == "rotary" else config.position,
        pooling=config.pooling,
    )
    _draw(network, config)
    return network


def build_text_encoder(
    config: TextClassifierConfig, *, vocab_size: int, context_length: int, num_classes: int
) -> TextEncoder:
    """Builds the network with fresh weights.

    Args:
        config: The architecture and how fresh weights are drawn.
        vocab_size: Of the tokenizer.
        context_length: The longest text that the model is meant for.
        num_classes: K.

    Raises:
        ValueError: values that don't fit together.
    """
    network = TextEncoder(
        transformer_options(config),
        depth=config.depth,
        vocab_size=vocab_size,
        context_length=context_length,
        num_classes=num_classes,
        positions="none" if config.position == "rotary" else config.position,
        pooling=config.pooling,
        token_dropout=config.token_dropout,
        feature_dropout=config.feature_dropout,
    )
    _draw(network, config)
    return network


def _draw(network: nn.Module, config: TransformerConfig) -> None:
    draw_weights(
        network,
        depth=config.depth,
        embedding_std=config.embedding_std,
        linear_std=config.linear_std,
        output_init=config.output_init,
    )

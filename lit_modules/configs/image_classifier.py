"""Schemas of the image classifiers; importing them imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting
from lit_modules.configs.base import LayersConfig, PerceptronConfig
from lit_modules.configs.classifier import ClassifierConfig
from lit_modules.configs.transformer import PooledTransformerConfig

Activation = Literal["relu", "gelu", "silu"]


@dataclass(kw_only=True)
class ImageClassifierConfig(ClassifierConfig):
    """Settings of any image classifier."""

    channels_last: bool = setting(
        True, "Store convolution weights and feature maps as NHWC: twice as fast on CPUs."
    )


@dataclass(kw_only=True)
class MLPConfig(PerceptronConfig, ImageClassifierConfig):
    """A multilayer perceptron on flattened images."""

    hidden: list[int] = setting(
        [512, 256, 128, 64],
        "Widths of the hidden layers; time grows with the product of adjacent widths.",
        min=1,
        max=1 << 20,
    )


@dataclass(kw_only=True)
class ResidualCNNConfig(LayersConfig, ImageClassifierConfig):
    """A small residual convolutional network."""

    widths: list[int] = setting(
        [24, 48, 96],
        "Channels of each stage; each stage halves the image. Time grows with the square.",
        min=1,
        max=1 << 16,
    )
    blocks: list[int] = setting(
        [0, 1, 1], "Number of residual blocks after each stage; all cost about the same.", min=0, max=1000
    )
    stem_kernel: int = setting(3, "Side of the first convolution's kernel; must be odd.", min=1, max=11)
    stem_stride: int = setting(
        1, "Stride of the first convolution; 2 replaces its max-pooling and is faster.", min=1, max=2
    )
    pooling: Literal["max", "mean"] = setting(
        "max", "How the last feature maps become one feature per channel."
    )
    activation: Activation = setting("relu", "Activation function of the hidden layers.")
    dropout: float = setting(0.0, "Probability of dropping a pooled feature in training.", min=0.0, below=1.0)

    def __post_init__(self) -> None:
        if not self.widths or len(self.widths) != len(self.blocks):
            raise ValueError(
                f"blocks: {self.blocks} and widths {self.widths} must have the same length, at least 1"
            )
        if self.stem_kernel % 2 == 0:
            raise ValueError(f"stem_kernel: {self.stem_kernel} is even; it must be odd")


@dataclass(kw_only=True)
class ClassicCNNConfig(LayersConfig, ImageClassifierConfig):
    """The two-convolution network of PyTorch's MNIST example. It has no sizes to choose."""


@dataclass(kw_only=True)
class VisionTransformerConfig(PooledTransformerConfig, ImageClassifierConfig):
    """A transformer encoder on patches of the image."""

    patch_size: int = setting(
        4,
        "Side of a patch in pixels; must divide the image's. Half the side gives four times the tokens.",
        min=1,
        max=1024,
    )

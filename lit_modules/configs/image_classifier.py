"""Schemas of the image classifiers; importing them imports no torch."""

from dataclasses import dataclass
from typing import Any, Literal

from datamodules.setting import setting
from lit_modules.configs.classifier import ClassifierConfig
from lit_modules.configs.transformer import TransformerConfig

Activation = Literal["relu", "gelu", "silu"]


def _dropout(of: str) -> Any:
    text = f"Probability that {of} is zeroed in training."
    return setting(0.0, text, min=0.0, below=1.0)


@dataclass(kw_only=True)
class ImageClassifierConfig(ClassifierConfig):
    """What every image classifier shares."""

    channels_last: bool = setting(True, "Keep convolutions' weights and maps as NHWC: twice as fast on CPUs.")


@dataclass(kw_only=True)
class MLPConfig(ImageClassifierConfig):
    """A multilayer perceptron on flattened images."""

    hidden: list[int] = setting(
        [512, 256, 128, 64], "Widths of the hidden layers; time grows as neighbours' product.", min=1
    )
    activation: Activation = setting("relu", "Activation function of the hidden layers.")
    batch_norm: bool = setting(False, "Normalise hidden layers over the batch before the activation.")
    dropout: float = _dropout("a hidden activation")


@dataclass(kw_only=True)
class ResidualCNNConfig(ImageClassifierConfig):
    """A small residual convolutional network."""

    widths: list[int] = setting(
        [24, 48, 96], "Channels of each stage, which halves the image; time grows with the square.", min=1
    )
    blocks: list[int] = setting(
        [0, 1, 1], "Residual blocks after each stage; an early one costs as much as a late one.", min=0
    )
    stem_kernel: int = setting(3, "Side of the first convolution, odd.", min=1, max=11)
    stem_stride: int = setting(
        1, "2: the first convolution halves the image itself, faster than the max-pooling of 1.", min=1, max=2
    )
    pooling: Literal["max", "mean"] = setting("max", "How the last maps become one feature per channel.")
    activation: Activation = setting("relu", "Activation function of the hidden layers.")
    dropout: float = _dropout("a pooled feature")

    def __post_init__(self) -> None:
        if not self.widths or len(self.widths) != len(self.blocks):
            raise ValueError(
                f"blocks: {self.blocks} and widths {self.widths} must be equally long and not empty"
            )
        if self.stem_kernel % 2 == 0:
            raise ValueError(f"stem_kernel: {self.stem_kernel} is even, allowed are odd numbers")


@dataclass(kw_only=True)
class ClassicCNNConfig(ImageClassifierConfig):
    """The two-convolution network of PyTorch's MNIST example; nothing of it can be set."""


@dataclass(kw_only=True)
class VisionTransformerConfig(TransformerConfig, ImageClassifierConfig):
    """A transformer encoder on patches of the image."""

    patch_size: int = setting(
        4, "Side of a patch in pixels; it divides the image's. Half of it is four times the tokens.", min=1
    )
    pooling: Literal["mean", "cls", "attention"] = setting(
        "mean", "What becomes of the patches: their mean, a learned token's view, or attention's."
    )

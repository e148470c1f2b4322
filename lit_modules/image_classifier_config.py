"""Schemas of the image classifiers; importing them imports no torch."""

from dataclasses import dataclass, field
from typing import Any, Literal

from lit_modules.classifier_config import ClassifierConfig
from lit_modules.transformer_config import TransformerConfig

Activation = Literal["relu", "gelu", "silu"]
_ACTIVATION = {"help": "What makes the layers non-linear."}


def _dropout(of: str) -> Any:
    text = f"Probability that {of} is zeroed in training."
    return field(default=0.0, metadata={"help": text, "min": 0.0, "below": 1.0})


@dataclass(kw_only=True)
class ImageClassifierConfig(ClassifierConfig):
    """What every image classifier shares."""

    channels_last: bool = field(
        default=True,
        metadata={"help": "Keep convolutions' weights and maps as NHWC: twice as fast on CPUs."},
    )


@dataclass(kw_only=True)
class MLPConfig(ImageClassifierConfig):
    """A multilayer perceptron on flattened images."""

    hidden: list[int] = field(
        default_factory=lambda: [512, 256, 128, 64],
        metadata={
            "help": "Widths of the hidden layers; time grows as neighbours' product.",
            "min": 1,
        },
    )
    activation: Activation = field(default="relu", metadata=_ACTIVATION)
    batch_norm: bool = field(
        default=False, metadata={"help": "Normalise hidden layers over the batch before the activation."}
    )
    dropout: float = _dropout("a hidden activation")


@dataclass(kw_only=True)
class ResidualCNNConfig(ImageClassifierConfig):
    """A small residual convolutional network."""

    widths: list[int] = field(
        default_factory=lambda: [24, 48, 96],
        metadata={
            "help": "Channels of each stage, which halves the image; time grows with the square.",
            "min": 1,
        },
    )
    blocks: list[int] = field(
        default_factory=lambda: [0, 1, 1],
        metadata={
            "help": "Residual blocks after each stage; an early one costs as much as a late one.",
            "min": 0,
        },
    )
    stem_kernel: int = field(
        default=3, metadata={"help": "Side of the first convolution, odd.", "min": 1, "max": 11}
    )
    stem_stride: int = field(
        default=1,
        metadata={
            "help": "2: the first convolution halves the image itself, faster than the max-pooling of 1.",
            "min": 1,
            "max": 2,
        },
    )
    pooling: Literal["max", "mean"] = field(
        default="max", metadata={"help": "How the last maps become one feature per channel."}
    )
    activation: Activation = field(default="relu", metadata=_ACTIVATION)
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

    patch_size: int = field(
        default=4,
        metadata={
            "help": "Side of a patch in pixels; it divides the image's. Half of it is four times the tokens.",
            "min": 1,
        },
    )
    pooling: Literal["mean", "cls", "attention"] = field(
        default="mean",
        metadata={"help": "What becomes of the patches: their mean, a learned token's view, or attention's."},
    )

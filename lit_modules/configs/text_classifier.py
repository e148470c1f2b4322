"""Schema of the text classifier; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting
from lit_modules.configs.classifier import ClassifierConfig
from lit_modules.configs.transformer import TransformerConfig


@dataclass(kw_only=True)
class TextClassifierConfig(TransformerConfig, ClassifierConfig):
    """A transformer encoder that reads a text and tells its class."""

    pooling: Literal["mean", "cls", "attention"] = setting(
        "mean", "What becomes of the tokens: their mean, a learned token's view, or attention's."
    )
    token_dropout: float = setting(
        0.0, "Probability that a token is hidden from the whole network in training.", min=0.0, below=1.0
    )
    feature_dropout: float = setting(
        0.0, "Probability that a pooled feature is zeroed in training.", min=0.0, below=1.0
    )

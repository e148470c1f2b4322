"""Schema of the text classifier; importing it imports no torch."""

from dataclasses import dataclass, field
from typing import Literal

from lit_modules.classifier_config import ClassifierConfig
from lit_modules.transformer_config import TransformerConfig


@dataclass(kw_only=True)
class TextClassifierConfig(TransformerConfig, ClassifierConfig):
    """A transformer encoder that reads a text and tells its class."""

    pooling: Literal["mean", "cls", "attention"] = field(
        default="mean",
        metadata={"help": "What becomes of the tokens: their mean, a learned token's view, or attention's."},
    )
    token_dropout: float = field(
        default=0.0,
        metadata={
            "help": "Probability that a token is hidden from the whole network in training.",
            "min": 0.0,
            "below": 1.0,
        },
    )
    feature_dropout: float = field(
        default=0.0,
        metadata={
            "help": "Probability that a pooled feature is zeroed in training.",
            "min": 0.0,
            "below": 1.0,
        },
    )

"""Schema of the text classifier; importing it imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting
from lit_modules.configs.classifier import ClassifierConfig
from lit_modules.configs.transformer import PooledTransformerConfig


@dataclass(kw_only=True)
class TextClassifierConfig(PooledTransformerConfig, ClassifierConfig):
    """A transformer encoder that classifies texts."""

    token_dropout: float = setting(0.0, "Probability of masking a token in training.", min=0.0, below=1.0)
    feature_dropout: float = setting(
        0.0, "Probability of dropping a pooled feature in training.", min=0.0, below=1.0
    )

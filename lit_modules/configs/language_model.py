"""Schema of the transformer language model; importing it imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting
from lit_modules.configs.base import ModelConfig
from lit_modules.configs.transformer import TransformerConfig


@dataclass(kw_only=True)
class LanguageModelConfig(TransformerConfig, ModelConfig):
    """A decoder-only transformer. The defaults are a small GPT-2; every published variant is other values."""

    tie_embeddings: bool = setting(True, "The output layer is the embedding, transposed: fewer weights.")
    zero_head: bool = setting(
        False, "Start an output layer that isn't tied at zero: every token equally likely."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.zero_head and self.tie_embeddings:
            raise ValueError(
                "zero_head: true with tie_embeddings true would zero the embedding; set one false"
            )

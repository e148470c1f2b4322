"""Schema of the transformer language model; importing it imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from datamodules.setting import setting
from lit_modules.configs.base import ModelConfig
from lit_modules.configs.objective import TOKEN_OBJECTIVES
from lit_modules.configs.transformer import TransformerConfig


@dataclass(kw_only=True)
class LanguageModelConfig(TransformerConfig, ModelConfig):
    """A decoder-only transformer. The defaults are a small GPT-2."""

    objectives: ClassVar[tuple[str, ...]] = TOKEN_OBJECTIVES

    tie_embeddings: bool = setting(True, "Share the weights of the output head and the embedding.")
    zero_head: bool = setting(
        False,
        "Start the output head at zero, so that all tokens are equally likely; needs tie_embeddings false.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.zero_head and self.tie_embeddings:
            raise ValueError(
                "zero_head: true with tie_embeddings true would zero the embedding; set one of them to false"
            )

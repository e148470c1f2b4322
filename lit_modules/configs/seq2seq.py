"""Schema of the sequence-to-sequence transformer; importing it imports no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from datamodules.setting import setting
from lit_modules.configs.base import ModelConfig
from lit_modules.configs.objective import TOKEN_OBJECTIVES
from lit_modules.configs.transformer import Position, TransformerConfig


@dataclass(kw_only=True)
class Seq2SeqConfig(TransformerConfig, ModelConfig):
    """An encoder–decoder transformer. `depth` is the depth of the encoder; both stacks share the rest."""

    objectives: ClassVar[tuple[str, ...]] = TOKEN_OBJECTIVES

    decoder_depth: int | None = setting(None, "Number of decoder layers; null: depth.", min=1, max=1000)
    position: Position = setting(
        "sinusoidal",
        "Kind of position encoding; learned positions end at the longest sequence of the data, rotary ones "
        "apply to self-attention only.",
    )
    share_embeddings: bool = setting(
        False, "Share one embedding between source and target; needs equal vocabularies."
    )
    tie_embeddings: bool = setting(True, "Share the weights of the output head and the target's embedding.")
    directions: Literal["forward", "both"] = setting(
        "forward",
        "both: half of the training targets are reversed, and the test runs a beam search from each end.",
    )
    beam_size: int = setting(
        1, "Number of hypotheses of the test's beam search; 1: greedy, as in validation.", min=1, max=256
    )
    length_penalty: float = setting(
        1.0,
        "Exponent a in a hypothesis's score, log-probability / length^a; 0 prefers short ones.",
        min=0.0,
        max=100.0,
    )

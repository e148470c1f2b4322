"""Schema of the sequence-to-sequence transformer; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting
from lit_modules.configs.base import ModelConfig
from lit_modules.configs.transformer import TransformerConfig


@dataclass(kw_only=True)
class Seq2SeqConfig(TransformerConfig, ModelConfig):
    """An encoder–decoder transformer; `depth` is the encoder's, all else is of both stacks."""

    decoder_depth: int | None = setting(
        None, "Layers that write; null: as many as depth, those that read.", min=1
    )
    position: Literal["learned", "rotary", "sinusoidal", "none"] = setting(
        "sinusoidal",
        "How tokens know their place; learned ones end with the longest sequence of the data, "
        "rotary ones are of self-attention alone.",
    )
    share_embeddings: bool = setting(
        False, "Source and target have one embedding; their vocabularies must be the same."
    )
    tie_embeddings: bool = setting(True, "The output layer is the target's embedding, transposed.")
    label_smoothing: float = setting(
        0.0, "Share of each training target that is spread over the whole vocabulary.", min=0.0, max=1.0
    )
    directions: Literal["forward", "both"] = setting(
        "forward",
        "both: every second target of the training is written from its end, and a beam from each "
        "end looks for the answer of the test.",
    )
    beam_size: int = setting(
        1, "Hypotheses that the test keeps of each target, from each end; 1: greedy, as validation.", min=1
    )
    length_penalty: float = setting(
        1.0,
        "Exponent a of the length in a hypothesis's score, log-probability / length^a; 0 prefers short ones.",
        min=0.0,
    )

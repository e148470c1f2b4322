"""Schema of the sequence-to-sequence transformer; importing it imports no torch."""

from dataclasses import dataclass, field
from typing import Literal

from lit_modules.base_config import ModelConfig
from lit_modules.transformer_config import TransformerConfig


@dataclass(kw_only=True)
class Seq2SeqConfig(TransformerConfig, ModelConfig):
    """An encoder–decoder transformer; `depth` is the encoder's, all else is of both stacks."""

    decoder_depth: int | None = field(
        default=None,
        metadata={"help": "Layers that write; null: as many as depth, those that read.", "min": 1},
    )
    position: Literal["learned", "rotary", "sinusoidal", "none"] = field(
        default="sinusoidal",
        metadata={
            "help": "How tokens know their place; learned ones end with the longest sequence of the data, "
            "rotary ones are of self-attention alone."
        },
    )
    share_embeddings: bool = field(
        default=False,
        metadata={"help": "Source and target have one embedding; their vocabularies must be the same."},
    )
    tie_embeddings: bool = field(
        default=True, metadata={"help": "The output layer is the target's embedding, transposed."}
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={
            "help": "Share of each training target that is spread over the whole vocabulary.",
            "min": 0.0,
            "max": 1.0,
        },
    )
    directions: Literal["forward", "both"] = field(
        default="forward",
        metadata={
            "help": "both: every second target of the training is written from its end, and a beam from each "
            "end looks for the answer of the test."
        },
    )
    beam_size: int = field(
        default=1,
        metadata={
            "help": "Hypotheses that the test keeps of each target, from each end; 1: greedy, as validation.",
            "min": 1,
        },
    )
    length_penalty: float = field(
        default=1.0,
        metadata={
            "help": "Exponent a of the length in a hypothesis's score, log-probability / length^a; 0 prefers "
            "short ones.",
            "min": 0.0,
        },
    )

"""Schema of the character RNN; importing it imports no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from datamodules.setting import setting
from lit_modules.configs.base import LayersConfig, ModelConfig
from lit_modules.configs.objective import TOKEN_OBJECTIVES


@dataclass(kw_only=True)
class CharRNNConfig(LayersConfig, ModelConfig):
    """A recurrent network that predicts the next token, or the tokens of another sequence."""

    objectives: ClassVar[tuple[str, ...]] = TOKEN_OBJECTIVES

    cell: Literal["rnn", "gru", "lstm"] = setting(
        "gru", "Kind of recurrent cell; a gru costs 3 times an rnn, an lstm 4 times."
    )
    hidden: int = setting(256, "Width of the state; time grows with its square.", min=1, max=1 << 16)
    num_layers: int = setting(1, "Number of stacked recurrent layers.", min=1, max=100)
    input: Literal["one_hot", "embedding"] = setting(
        "embedding", "Input representation of a token: one-hot or a learned embedding."
    )
    embedding: int = setting(64, "Width of the embedding; unused with input one_hot.", min=1, max=1 << 16)
    read_out: bool = setting(
        True,
        "Map states to logits with a linear layer; false: the state is the logits, and hidden must equal the "
        "vocabulary size.",
    )
    dropout: float = setting(
        0.0,
        "Probability of dropping an input or output of a layer in training.",
        min=0.0,
        below=1.0,
    )
    carry_state: bool = setting(
        False,
        "Start each batch from the final state of the previous batch; for data.sampling sequential. "
        "Gradients stop at the batch boundary.",
    )
    loop: bool = setting(
        False,
        "Run a Python loop of cells over time instead of one call for the whole sequence; same results.",
    )

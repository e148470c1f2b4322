"""Schema of the character RNN; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting
from lit_modules.configs.base import ModelConfig


@dataclass(kw_only=True)
class CharRNNConfig(ModelConfig):
    """A recurrent network from tokens to the next ones, or to those of another sequence."""

    cell: Literal["rnn", "gru", "lstm"] = setting(
        "gru", "Kind of recurrent layer; a gru costs 3 rnn, an lstm 4."
    )
    hidden: int = setting(256, "Width of the state; time grows with its square.", min=1)
    num_layers: int = setting(1, "Recurrent layers on top of each other.", min=1)
    input: Literal["one_hot", "embedding"] = setting(
        "embedding", "What stands for a token: its one-hot or a learnt vector."
    )
    embedding: int = setting(64, "Width of the learnt vectors; one_hot has none.", min=1)
    read_out: bool = setting(
        True,
        "Turn states into logits by a linear layer; without it the state is the logits, and "
        "hidden must be the size of the vocabulary.",
    )
    dropout: float = setting(
        0.0,
        "Probability that a number on its way into or out of a layer is zeroed in training.",
        min=0.0,
        below=1.0,
    )
    carry_state: bool = setting(
        False,
        "Begin each batch with the state that the batch before ended with, for data.sampling "
        "sequential; gradients end at the batch's start.",
    )
    implementation: Literal["layer", "cell_loop"] = setting(
        "layer", "One call for the whole sequence, or cells in a Python loop over time: the same."
    )
    kernel: Literal["fused", "by_hand"] = setting(
        "fused", "PyTorch's recurrent kernels, or ours for reading: the same."
    )

"""Schema of the steering network; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting
from lit_modules.configs.base import ModelConfig


@dataclass(kw_only=True)
class SteeringConfig(ModelConfig):
    """A two-layer network that guesses the vector to steer a prompt with from the prompt's hidden state."""

    hidden: int = setting(1024, "Hidden units; without a skip no more directions than these.", min=1)
    activation: Literal["relu", "tanh"] = setting("relu", "What makes the network non-linear.")
    loss: Literal["mse", "mse_l1_cosine"] = setting(
        "mse", "Trained to lower the squared error (formula 8), or that + the absolute one − the cosine."
    )
    skip: Literal["none", "linear"] = setting("none", "linear: a full matrix past the hidden units.")
    hidden_bias: float = setting(
        0.0,
        "Where the hidden biases start; far above 0 a ReLU starts as the identity. 0: small random ones.",
        min=0.0,
    )
    dropout: float = setting(
        0.0, "Share of the inputs and of the hidden units left out in training.", min=0.0, below=1.0
    )
    normalize_inputs: bool = setting(
        False, "Bring each entry of the hidden states to mean 0 and deviation 1 over training."
    )
    normalize_targets: bool = setting(
        False,
        "Let the network guess vectors divided by their root mean square over training; losses "
        "stay in the units of the data.",
    )
    min_length: float = setting(
        0.0,
        "In evaluation a vector becomes zero, leaving its prompt alone, if shorter than this "
        "share of the training vectors' root mean square length.",
        min=0.0,
    )

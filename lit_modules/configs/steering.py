"""Schema of the steering network; importing it imports no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from datamodules.setting import setting
from lit_modules.configs.base import LayersConfig, ModelConfig
from lit_modules.configs.objective import VECTOR_OBJECTIVES


@dataclass(kw_only=True)
class SteeringConfig(LayersConfig, ModelConfig):
    """A two-layer network that predicts the steering vector of a prompt from its hidden state."""

    objectives: ClassVar[tuple[str, ...]] = VECTOR_OBJECTIVES

    hidden: int = setting(
        1024, "Number of hidden units; without a skip, also the rank of the map.", min=1, max=1 << 20
    )
    activation: Literal["relu", "tanh"] = setting("relu", "Activation function of the hidden units.")
    skip: Literal["none", "linear"] = setting(
        "none", "linear: add a linear map that bypasses the hidden units."
    )
    hidden_bias: float = setting(
        0.0,
        "Initial hidden bias; a large value makes a ReLU start as the identity. 0: random.",
        min=0.0,
        max=1e6,
    )
    dropout: float = setting(0.0, "Probability of dropping an input or a hidden unit.", min=0.0, below=1.0)
    normalize_inputs: bool = setting(
        False, "Standardize each entry of the hidden states over the training pairs."
    )
    normalize_targets: bool = setting(
        False,
        "Scale the network's output by the root mean square of the training vectors; losses stay in "
        "the units of the data.",
    )
    min_length: float = setting(
        0.0,
        "In evaluation, replace a vector by zero if it is shorter than this fraction of the root mean "
        "square length of the training vectors.",
        min=0.0,
        max=1e6,
    )
    equal_length: bool = setting(
        False,
        "In evaluation, scale all other vectors to the root mean square length of the training vectors.",
    )

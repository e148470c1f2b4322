"""Schema fields of every model; importing them imports no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from datamodules.setting import setting


@dataclass(kw_only=True)
class ModelConfig:
    """Settings of every model; the config of each model extends it."""

    objectives: ClassVar[tuple[str, ...]] = ()
    """Names of the objectives that suit the model; the first is the default. Without any, a config of the
    model has no section `objective`."""
    has_reward: ClassVar[bool] = False
    """Whether a config of the model has a section `reward`."""

    init_from: str | None = setting(
        None,
        "Initial weights of a new run: a checkpoint, an earlier stage or, for a language model, smollm2, a "
        "Hugging Face folder or a GGUF file. Architecture and vocabulary come from it too.",
        resume="free",
        is_path=True,
    )


@dataclass(kw_only=True)
class LayersConfig:
    """The setting of every network that is built from `building_blocks`."""

    implementation: Literal["fused", "by_hand"] = setting(
        "fused", "PyTorch's layers, or the same layers written by hand, which are slower; same results."
    )


@dataclass(kw_only=True)
class PerceptronConfig(LayersConfig):
    """The settings of every multilayer perceptron, except the widths of its hidden layers."""

    activation: Literal["relu", "gelu", "silu", "sigmoid"] = setting(
        "relu", "Activation function of the hidden layers."
    )
    norm: Literal["none", "batch_norm", "layer_norm", "rms_norm"] = setting(
        "none", "Norm before each activation."
    )
    weight_init: Literal["default", "he"] = setting(
        "default",
        "Initial weights of the hidden layers. default: PyTorch's, of variance 1/(3n) for n inputs; he: of "
        "variance 2/n, which keeps the scale of signals and gradients through ReLU layers.",
    )
    residual: bool = setting(False, "Add the input of a hidden layer to its output if the widths are equal.")
    dropout: float = setting(
        0.0, "Probability of dropping a hidden activation in training.", min=0.0, below=1.0
    )

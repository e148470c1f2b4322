"""Schema of the two-layer classifier; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting
from lit_modules.configs.base import ModelConfig


@dataclass(kw_only=True)
class TwoLayerClassifierConfig(ModelConfig):
    """A two-layer classifier of table rows or images, with ReLU, softmax and cross-entropy."""

    hidden: int = setting(16, "Number of hidden units.", min=1, max=1 << 20)
    implementation: Literal["fused", "by_hand", "numpy"] = setting(
        "fused",
        "Who computes loss and gradient. fused: PyTorch's autograd; by_hand: our functions with derived "
        "backward passes; numpy: one function in NumPy. Same results.",
    )

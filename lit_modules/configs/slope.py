"""Schema of the line through the origin; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting
from lit_modules.configs.base import ModelConfig


@dataclass(kw_only=True)
class SlopeConfig(ModelConfig):
    """The line y = w x through the origin, with the mean squared error."""

    initial: float = setting(1.0, "Initial value of w.", min=-1e6, max=1e6)
    implementation: Literal["fused", "by_hand"] = setting(
        "fused", "Who computes the gradient: PyTorch's autograd, or the derivative by hand; same results."
    )

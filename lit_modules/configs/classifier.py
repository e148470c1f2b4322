"""Schema fields of every classifier; importing them imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting
from lit_modules.configs.base import ModelConfig


@dataclass(kw_only=True)
class ClassifierConfig(ModelConfig):
    """Settings of every classifier."""

    label_smoothing: float = setting(
        0.0, "Share of each training target that is spread over all classes.", min=0.0, max=1.0
    )

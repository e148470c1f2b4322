"""Schema fields of every classifier; importing them imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from lit_modules.configs.base import ModelConfig
from lit_modules.configs.objective import CLASS_OBJECTIVES


@dataclass(kw_only=True)
class ClassifierConfig(ModelConfig):
    """Settings of every classifier."""

    objectives: ClassVar[tuple[str, ...]] = CLASS_OBJECTIVES

"""Schema of the contrastive encoder; importing it imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from datamodules.setting import setting
from lit_modules.configs.image_classifier import ResidualCNNConfig
from lit_modules.configs.objective import PAIR_OBJECTIVES


@dataclass(kw_only=True)
class ContrastiveEncoderConfig(ResidualCNNConfig):
    """A residual CNN that learns without labels to recognise two views of one image."""

    objectives: ClassVar[tuple[str, ...]] = PAIR_OBJECTIVES

    projection: int = setting(
        64,
        "Width of the projections that the objective compares; later use takes the features below them.",
        min=1,
        max=1 << 16,
    )

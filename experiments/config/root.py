"""The typed experiment: what a checked config holds, and the keys beside its sections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from experiments.config.trainer import TrainerConfig

Form = Literal["fit", "variants", "stages"]

MAX_SEED = 2**32 - 1
"""NumPy's generators take no larger one."""


@dataclass(kw_only=True)
class RootConfig:
    """The keys of a config beside its sections."""

    name: str = field(default="", metadata={"help": "Names the run directory; the file's name by default."})
    seed: int = field(
        default=0, metadata={"help": "Seeds weights, data order and augmentation.", "min": 0, "max": MAX_SEED}
    )
    run_dir: str | None = field(
        default=None, metadata={"help": "Where the run is written; runs/<name>/<time>-<suffix> by default."}
    )
    resume: str | None = field(
        default=None, metadata={"help": "auto, or a checkpoint or run directory to continue exactly."}
    )
    seeds: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Run every variant with each of these seeds, then compare.",
            "min": 0,
            "max": MAX_SEED,
        },
    )


@dataclass(frozen=True)
class Section:
    """A section that names its piece: the short name and its typed settings."""

    name: str
    config: Any


@dataclass(frozen=True, kw_only=True)
class Child:
    """One fit of a study or one stage of a chain: its subdirectory and its own checked config."""

    path: str
    config: "Config"


@dataclass(frozen=True, kw_only=True)
class Config:
    """A checked experiment: a fit, or a study or chain whose fits are its ``children``.

    Attributes:
        form: ``"fit"``, ``"variants"`` or ``"stages"``.
        plain: Everything as plain containers, defaults included: what ``config.yaml`` and checkpoints hold.
        task: What a chain's stage does instead of a fit.
    """

    form: Form
    name: str
    seed: int
    run_dir: str | None
    resume: str | None
    model: Section
    data: Section
    optimizer: Section
    schedule: Section
    trainer: TrainerConfig
    plain: dict[str, Any]
    task: Section | None = None
    children: tuple[Child, ...] = ()
    baselines: Mapping[str, Section] = field(default_factory=dict)

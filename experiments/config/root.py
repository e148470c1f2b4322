"""The typed experiment: a checked config, and the schema of its root keys."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from datamodules.setting import setting
from experiments.config.comparison import ComparisonConfig
from experiments.config.trainer import TrainerConfig

Form = Literal["fit", "variants", "stages", "sweep"]

MAX_SEED = 2**32 - 1
"""The largest seed that NumPy's generators accept."""


@dataclass(kw_only=True)
class RootConfig:
    """The root keys of a config, outside its sections."""

    name: str = setting("", "Name of the run directory; the file's name by default.", resume="free")
    seed: int = setting(0, "Seed of the weights, the data order and the augmentation.", min=0, max=MAX_SEED)
    run_dir: str | None = setting(
        None, "Folder of the run; runs/<name>/<time>-<suffix> by default.", is_path=True
    )
    resume: str | None = setting(
        None,
        "Run directory or checkpoint to continue exactly; auto: the newest unfinished run of this name.",
        is_path=True,
    )
    seeds: list[int] = setting(
        [], "Run every variant, or all stages, with each of these seeds.", min=0, max=MAX_SEED
    )
    folds: int | None = setting(
        None,
        "Cross-validation: split the data into this many folds, and run every variant and seed once with "
        "each fold as the test split.",
        min=2,
        max=1000,
    )


@dataclass(frozen=True)
class Section:
    """A section of a config: the short name of its component and the typed settings."""

    name: str
    config: Any

    def to_plain(self) -> dict[str, Any]:
        """Return the section as plain values, as it is written in a config."""
        return {"name": self.name, **dataclasses.asdict(self.config)}


@dataclass(frozen=True, kw_only=True)
class Child:
    """One fit of a study or one stage of a chain: its subdirectory and its checked config."""

    path: str
    config: "Config"


@dataclass(frozen=True, kw_only=True)
class Config:
    """A checked experiment: one fit, or a study or chain with its fits in `children`.

    A sweep has one child: its fit with the first value of each setting.
    """

    form: Form
    name: str
    seed: int
    run_dir: str | None
    resume: str | None
    model: Section
    data: Section
    objective: Section | None  # `None` if the model takes none
    optimizer: Section | None  # `None` for a plain LightningModule, which has its own
    schedule: Section | None
    trainer: TrainerConfig
    plain: dict[str, Any]
    """The whole config with its defaults as plain containers; saved in `config.yaml` and checkpoints."""
    adapter: Section | None = None  # `None` trains all weights
    reward: Section | None = None  # `None` if the model takes none
    task: Section | None = None  # the task of a stage that does not fit a model
    children: tuple[Child, ...] = ()
    baselines: Mapping[str, Section] = field(default_factory=dict)
    callbacks: Mapping[str, Section] = field(default_factory=dict)
    loggers: Mapping[str, Section] = field(default_factory=dict)
    metrics: Mapping[str, Section] = field(default_factory=dict)
    sweep: Any = None  # the `experiments.config.sweep.Sweep` of a sweep
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)  # the report of a study

    @property
    def is_compared(self) -> bool:
        """Whether it ends with a comparison: a study, a sweep, or a chain with `seeds`."""
        return self.form in ("variants", "sweep") or (self.form == "stages" and "seeds" in self.plain)

"""Schema fields of every model; importing them imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class ModelConfig:
    """Settings of every model; the config of each model extends it."""

    init_from: str | None = setting(
        None,
        "Checkpoint with the initial weights of a new run; a stage may name an earlier stage.",
        resume="free",
    )

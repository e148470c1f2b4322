"""The schema fields that every model's config section shares."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class ModelConfig:
    """Settings of any model; each model's own config extends it."""

    init_from: str | None = setting(
        None,
        "Checkpoint whose weights a new run starts from (a stage may name an earlier one).",
        resume="free",
    )

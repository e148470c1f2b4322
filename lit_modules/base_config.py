"""The schema fields that every model's config section shares."""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class ModelConfig:
    """Settings of any model; each model's own config extends it."""

    init_from: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint whose weights a new run starts from (a stage may name an earlier one)."
        },
    )

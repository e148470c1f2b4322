"""The schema fields that every classifier's config section shares."""

from dataclasses import dataclass, field

from lit_modules.base_config import ModelConfig


@dataclass(kw_only=True)
class ClassifierConfig(ModelConfig):
    """Settings of any classifier, whatever it reads."""

    label_smoothing: float = field(
        default=0.0,
        metadata={
            "help": "Share of each training target that is spread over all classes.",
            "min": 0.0,
            "max": 1.0,
        },
    )

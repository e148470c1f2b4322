"""Schema of the task that compares the stages of a chain; importing it imports no torch."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class CrossEvaluationConfig:
    """Test each earlier fit on the data of each earlier fit. It has no settings."""

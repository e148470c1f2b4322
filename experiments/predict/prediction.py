"""The answer of a model to one input."""

from typing import Any, NamedTuple


class Prediction(NamedTuple):
    """What the command prints for one input."""

    lines: list[str]  # text for a person
    record: dict[str, Any]  # a JSON object for a program

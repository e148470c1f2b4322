"""The answer of a model to one input."""

from typing import Any, NamedTuple


class Prediction(NamedTuple):
    """What the command prints for one input.

    Attributes:
        lines: Text for a person.
        record: A JSON object for a program.
    """

    lines: list[str]
    record: dict[str, Any]

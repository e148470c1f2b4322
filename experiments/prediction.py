"""What a model answers to one input of `experiments.predict`."""

from typing import Any, NamedTuple


class Prediction(NamedTuple):
    """What is printed for one input.

    Attributes:
        lines: For a person.
        record: For a program: a JSON object.
    """

    lines: list[str]
    record: dict[str, Any]

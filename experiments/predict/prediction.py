"""The answer of a model to one input, as text, JSON and CSV."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

SHOWN = 3
"""Number of classes in a line of output."""


class Prediction(NamedTuple):
    """What the command prints for one input."""

    lines: list[str]  # text for a person
    record: dict[str, Any]  # a JSON object for a program
    rows: list[dict[str, Any]]  # rows of a CSV file, all with the same columns


def ranked(logits: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """Return the probability of each class, the most probable first, from logits (K,)."""
    probabilities = dict(zip(class_names, logits.double().softmax(dim=0).tolist(), strict=True))
    return dict(sorted(probabilities.items(), key=lambda item: -item[1]))


def describe(shown: str, probabilities: Mapping[str, float]) -> str:
    """Format one line: the input, its class and probability, and the next classes."""
    (first, most), *others = list(probabilities.items())[:SHOWN]
    rest = ", ".join(f"{name} {percent(value)}" for name, value in others)
    return f"{shown}: {first} {percent(most)}" + (f"  (then {rest})" if rest else "")


def percent(probability: float) -> str:
    """Format a probability with one decimal; only 0 and 1 themselves are 0.0% and 100.0%."""
    if 0 < probability < 0.0005:
        return "<0.1%"
    if 0.9995 <= probability < 1:
        return ">99.9%"
    return f"{probability:.1%}"


def choice(shown: str, given: Mapping[str, Any], probabilities: Mapping[str, float]) -> Prediction:
    """Return the prediction of a classifier.

    Args:
        shown: Name of the input in the printed line.
        given: Keys that identify the input in JSON and CSV.
        probabilities: The probability of each class, the most probable first.
    """
    first, most = next(iter(probabilities.items()))
    return Prediction(
        [describe(shown, probabilities)],
        {**given, "probabilities": probabilities},
        [{**given, "class": first, "probability": most}],
    )

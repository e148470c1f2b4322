"""Argument checks that several layers share."""

from typing import Literal, get_args

LayerImplementation = Literal["fused", "by_hand"]


def check_choice(name: str, value: str, literal: object) -> None:
    """Check that `literal`, a `Literal` type, lists a value.

    Raises:
        ValueError: Names the argument, its value and the allowed values.
    """
    allowed = get_args(literal)
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, allowed))}")


def check_positive(**values: int) -> None:
    """Check that all values are at least 1.

    Raises:
        ValueError: Names the first argument below 1 and its value.
    """
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")


def check_probability(name: str, value: float) -> None:
    """Check that a dropout rate is in [0, 1).

    Raises:
        ValueError: Names the argument and its value.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, expected 0 ≤ {name} < 1")

"""The checks of arguments that several layers share."""

from typing import Literal, get_args

LayerImplementation = Literal["fused", "by_hand"]
AttentionImplementation = Literal["fused", "by_hand", "tiled"]


def check_choice(name: str, value: str, literal: object) -> None:
    """Refuses a value that `literal`, a `Literal` type, doesn't list.

    Raises:
        ValueError: names the argument, its value and what is allowed.
    """
    allowed = get_args(literal)
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, allowed))}")


def check_probability(name: str, value: float) -> None:
    """Refuses a dropout rate outside [0, 1).

    Raises:
        ValueError: names the argument and its value.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, expected 0 ≤ {name} < 1")

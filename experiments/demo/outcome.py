"""What a demo returns: its inputs, and results by us, by a library and with the usual mistake."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Value = Tensor | float | str | Sequence[float]
"""A number, a vector, a matrix, or a text such as an error message."""


@dataclass(frozen=True)
class Result:
    """One quantity, computed in several ways.

    Args:
        what: The quantity, such as `softmax(x)`.
        ours: Its value from our code.
        oracle: What computes it independently, such as `torch.softmax`.
        library: The value of the oracle.
        wrong: The usual mistake in a few words, and the value that it gives.
        columns: Names of the columns, if the value is a table.
        tolerance: Largest accepted difference; rounding in fp64 by default.
    """

    what: str
    ours: Value
    oracle: str
    library: Value
    wrong: tuple[str, Value] | None = None
    columns: tuple[str, ...] = ()
    tolerance: float = 1e-12

    @property
    def difference(self) -> float:
        """Return max |ours − library|."""
        return distance(self.ours, self.library)


@dataclass(frozen=True)
class Outcome:
    """The inputs of a demo by name, and its results."""

    inputs: Mapping[str, Value]
    results: Sequence[Result]


def distance(a: Value, b: Value) -> float:
    """Return max |a − b|; two infinities or NaNs at the same place are equal, different shapes are not."""
    if isinstance(a, str) or isinstance(b, str):
        return 0.0 if a == b else torch.inf
    left, right = as_tensor(a), as_tensor(b)
    if left.shape != right.shape:
        return torch.inf
    gaps = (left - right).abs().masked_fill((left == right) | (left.isnan() & right.isnan()), 0)
    return float(gaps.nan_to_num(nan=torch.inf, posinf=torch.inf).max())


def as_tensor(value: Tensor | float | Sequence[float]) -> Tensor:
    """Convert numbers to fp64."""
    return torch.as_tensor(value, dtype=torch.float64).detach()


def numbers(*values: float | Sequence[float]) -> Tensor:
    """Return a vector or a matrix in fp64."""
    return torch.tensor(values, dtype=torch.float64)


def random(*shape: int) -> Tensor:
    """Return standard normal numbers in fp64."""
    return torch.randn(*shape, dtype=torch.float64)


def error_of(call: Callable[[], object]) -> str:
    """Return the type and the first line of the error that a call raises."""
    try:
        call()
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return "no error"

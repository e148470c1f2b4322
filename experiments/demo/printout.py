"""Print the outcome of a demo as a table of 80 columns."""

import math
import textwrap
from collections.abc import Iterator, Sequence

from torch import Tensor

from experiments.demo.outcome import Outcome, Result, Value, as_tensor
from experiments.demo.pieces import Piece

WIDTH = 80
NUMBER = 10  # width of a number, at most
NOISE = 1e-12  # smaller numbers are rounding errors of zero


def render(piece: Piece, outcome: Outcome) -> str:
    """Return the head of a piece, its inputs and its results."""
    lines = [*_wrapped(f"{piece.name}: ", piece.does), ""]
    for name in ("formula", "source", "code", "mistake"):
        lines += _wrapped(f"{name:<10}", getattr(piece, name))
    labels = [*outcome.inputs, *(label for result in outcome.results for label in _labels(result))]
    width = max(map(len, labels)) + 4
    lines += ["", "inputs"]
    for name, value in outcome.inputs.items():
        lines += _rows(name, value, width)
    for result in outcome.results:
        lines += ["", result.what, *_result(result, width)]
    return "\n".join(line.rstrip() for line in lines)


def _labels(result: Result) -> list[str]:
    return ["ours", result.oracle, *([f"wrong: {result.wrong[0]}"] if result.wrong else [])]


def _result(result: Result, width: int) -> Iterator[str]:
    ours, library, *wrong = _labels(result)
    if result.columns:
        yield " " * width + _cells(result.columns, width)
    yield from _rows(ours, result.ours, width)
    yield from _rows(library, result.library, width)
    yield f"  {'difference':<{width - 2}}{_cells([f'{result.difference:.1e}'], width)}"
    if result.wrong:
        yield from _rows(wrong[0], result.wrong[1], width)


def _rows(label: str, value: Value, width: int) -> Iterator[str]:
    """Write a value behind its label; a matrix takes one line for each row."""
    if isinstance(value, str):
        yield from _wrapped(f"  {label:<{width - 2}}", value)
        return
    numbers = as_tensor(value)
    rows = numbers.reshape(-1, numbers.shape[-1]) if numbers.dim() else numbers.reshape(1, 1)
    for number, row in enumerate(rows):
        head = label if number == 0 else ""
        yield f"  {head:<{width - 2}}" + _cells([*_texts(row, numbers)], width)


def _cells(texts: Sequence[str], width: int) -> str:
    """Align texts to the right in columns that fit behind a label of `width`."""
    column = min(NUMBER, (WIDTH - width) // len(texts))
    return "".join(f"{text:>{column}}" for text in texts)


def _texts(row: Tensor, whole: Tensor) -> Iterator[str]:
    """Write numbers with four decimals, or as integers if all numbers of the value are integers."""
    finite = whole[whole.isfinite()]
    integers = bool((finite == finite.round()).all())
    for number in row.tolist():
        if not math.isfinite(number):
            yield f"{number}"
        elif abs(number) < NOISE:
            yield "0" if integers else "0.0000"
        elif integers and abs(number) < 1e8:
            yield f"{number:.0f}"
        elif 1e-4 <= abs(number) < 1e4:
            yield f"{number:.4f}"
        else:
            yield f"{number:.2e}"


def _wrapped(head: str, text: str) -> list[str]:
    indent = " " * min(len(head), 30)
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=indent) or [head]

"""Tables are aligned, fit in 80 columns, and print special values."""

import torch

from experiments.demo.outcome import Outcome, Result, numbers
from experiments.demo.pieces import Piece
from experiments.demo.printout import render

PIECE = Piece(
    name="piece",
    topic="topic",
    file="file",
    does="Do something",
    formula="y = x",
    source="Somebody 2000",
    mistake="Something else.",
    code="code.py",
)
TABLE = """\
piece: Do something

formula   y = x
source    Somebody 2000
code      code.py
mistake   Something else.

inputs
  x                     1         2
                        3         4
  word         text

the result
                        a         b
  ours             0.5000      -inf
  library          0.5000      -inf
  difference      0.0e+00
  wrong: less         nan  1.00e-05"""


def test_a_table_is_written_as_it_should_be() -> None:
    result = Result(
        "the result",
        numbers(0.5, -torch.inf),
        "library",
        numbers(0.5, -torch.inf),
        wrong=("less", numbers(torch.nan, 1e-5)),
        columns=("a", "b"),
    )
    outcome = Outcome(inputs={"x": numbers((1, 2), (3, 4)), "word": "text"}, results=[result])
    assert render(PIECE, outcome) == TABLE


def test_rounding_errors_of_zero_are_printed_as_zero() -> None:
    text = render(PIECE, Outcome(inputs={"x": numbers(0.5, 1e-17, -0.0)}, results=[]))
    assert text.endswith("0.5000    0.0000    0.0000")


def test_many_columns_get_narrower() -> None:
    text = render(PIECE, Outcome(inputs={"x": torch.full((8,), -0.125)}, results=[]))
    assert text.splitlines()[-1].count("-0.1250") == 8
    assert max(map(len, text.splitlines())) <= 80

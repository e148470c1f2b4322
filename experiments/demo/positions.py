"""Positions.

How a transformer knows the order of its tokens.
"""

import math

import torch
from torch import Tensor

from experiments.demo.outcome import Outcome, Result, numbers, random
from lit_modules.layers.positional import RotaryPositions, SinusoidalPositions


def sinusoidal_positions() -> Outcome:
    """Describe a position by sines and cosines of several wavelengths.

    Formula: PE[p, 2i] = sin(p / 10000^(2i/W)), PE[p, 2i+1] = cos(p / 10000^(2i/W))
    Source: Vaswani et al. 2017, "Attention is all you need", section 3.5
    Mistake: A column c with the exponent c/W: a sine and its cosine then have different wavelengths.
    Code: lit_modules/layers/positional.py
    Picture: the encodings of 64 positions
    """

    def entry(p: int, column: int, exponent: int) -> float:
        angle = p / 10_000 ** (exponent / 4)
        return math.cos(angle) if column % 2 else math.sin(angle)

    places = torch.arange(4)
    right = [[entry(p, c, c - c % 2) for c in range(4)] for p in range(4)]
    wrong = [[entry(p, c, c) for c in range(4)] for p in range(4)]
    return Outcome(
        inputs={"positions": places, "W": 4},
        results=[
            Result(
                "encodings, one row for each position",
                SinusoidalPositions(4)(places, dtype=torch.float64),
                "Python's math",
                numbers(*right),
                wrong=("exponent c/W", numbers(*wrong)),
            )
        ],
    )


def rotary_positions() -> Outcome:
    """Rotate queries and keys, so that their product depends on the distance only.

    Formula: (a, b) → (a cos θ − b sin θ, b cos θ + a sin θ), θ = p / 10000^(2i/D) for pair i
    Source: Su et al. 2021, "RoFormer", eq. 34
    Mistake: Weights of one layout (adjacent pairs, halves) used with the other.
    Code: lit_modules/layers/positional.py
    Picture: four pairs of channels, rotated at 16 positions
    """
    query, key = random(1, 1, 1, 4), random(1, 1, 1, 4)
    adjacent, halves = RotaryPositions(4, layout="adjacent_pairs"), RotaryPositions(4, layout="half_split")
    turn = torch.polar(numbers(1, 1), 5 / 10_000 ** numbers(0, 0.5))
    turned = torch.view_as_real(torch.view_as_complex(query.view(2, 2)) * turn).flatten()
    swap = [0, 2, 1, 3]  # channels (0, 1), (2, 3) as the halves (0, 2), (1, 3), and back
    return Outcome(
        inputs={"q": query, "k": key},
        results=[
            Result(
                "q at position 5",
                _rotate(query, adjacent, 5),
                "complex numbers",
                turned,
                wrong=("other layout", _rotate(query, halves, 5)),
            ),
            Result(
                "the same in halves, channels permuted",
                _rotate(query[..., swap], halves, 5)[swap],
                "complex numbers",
                turned,
            ),
            Result(
                "q at 5 · k at 3",
                _rotate(query, adjacent, 5) @ _rotate(key, adjacent, 3),
                "q at 102 · k at 100",
                _rotate(query, adjacent, 102) @ _rotate(key, adjacent, 100),
            ),
        ],
    )


def _rotate(x: Tensor, rotary: RotaryPositions, position: int) -> Tensor:
    """Rotate one head (1, 1, 1, D) at a position."""
    return rotary(torch.tensor([position]), dtype=torch.float64)(x, order="BHTD").flatten()

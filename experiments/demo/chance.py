"""Random numbers and iteration.

Shuffles, samples, π and square roots.
"""

import math
from itertools import permutations

import torch

from experiments.demo.outcome import Outcome, Result, numbers
from experiments.demo.trials import (
    TRIALS,
    reservoir_off_by_one,
    shares,
    shuffle_from_all_places,
    sqrt_fixed_step,
)
from lit_modules import functional


def shuffle() -> Outcome:
    """Put items in a random order.

    Formula: place i, from the last to the first, takes one of the places 0 … i
    Source: Durstenfeld 1964, "Algorithm 235: random permutation" (Fisher–Yates)
    Mistake: Drawing from all n places each time: n^n draws can't be spread evenly over n! orders.
    Code: lit_modules/functional/numerics.py
    Picture: how often each order of three items occurs
    """
    generator = torch.Generator().manual_seed(0)
    orders = ["".join(order) for order in permutations("abc")]
    ours = shares(lambda: ["".join(functional.fisher_yates_shuffle("abc", generator=generator))], orders)
    wrong = shares(lambda: [shuffle_from_all_places("abc", generator)], orders)
    return Outcome(
        inputs={"items": "a, b, c", "shuffles": TRIALS},
        results=[
            Result(
                "share of each order",
                numbers(*ours),
                "1 / 3!",
                numbers(*[1 / 6] * 6),
                wrong=("from all places", numbers(*wrong)),
                columns=tuple(orders),
                tolerance=3 * math.sqrt(1 / 6 * 5 / 6 / TRIALS),  # three standard deviations
            )
        ],
    )


def reservoir() -> Outcome:
    """Sample items from a stream of unknown length.

    Formula: item n is kept with probability k / n and replaces a random item
    Source: Vitter 1985, "Random sampling with a reservoir", algorithm R
    Mistake: Off by one: drawing from n − 1 places, so that later items are kept too often.
    Code: lit_modules/functional/numerics.py
    Picture: how often each item of a stream is kept
    """
    generator = torch.Generator().manual_seed(0)
    ours = shares(lambda: functional.reservoir_sample("abcdef", 2, generator=generator), "abcdef")
    wrong = shares(lambda: reservoir_off_by_one("abcdef", 2, generator), "abcdef")
    return Outcome(
        inputs={"stream": "a, b, c, d, e, f", "k": 2, "samples": TRIALS},
        results=[
            Result(
                "share of samples with each item",
                numbers(*ours),
                "k / n",
                numbers(*[1 / 3] * 6),
                wrong=("off by one", numbers(*wrong)),
                columns=tuple("abcdef"),
                tolerance=3 * math.sqrt(1 / 3 * 2 / 3 / TRIALS),
            )
        ],
    )


def pi() -> Outcome:
    """Estimate π by random points.

    Formula: 4 × the share of points of the unit square with x² + y² ≤ 1
    Source: Metropolis & Ulam 1949, "The Monte Carlo method"; Wilson 1927 (interval)
    Mistake: Forgetting that the unit square holds a quarter of the disc.
    Code: lit_modules/functional/numerics.py
    Picture: estimates and their 95 % intervals for growing n
    """
    sizes = (100, 10_000, 1_000_000)
    generator = torch.Generator().manual_seed(0)
    estimates = [functional.monte_carlo_pi(n, generator=generator) for n in sizes]
    return Outcome(
        inputs={"points": torch.tensor(sizes)},
        results=[
            Result(
                f"{n} points: within the interval {low:.4f} … {high:.4f}",
                value,
                "math.pi",
                math.pi,
                wrong=("no factor 4", value / 4),
                tolerance=max(high - value, value - low),
            )
            for n, (value, low, high) in zip(sizes, estimates, strict=True)
        ],
    )


def square_root() -> Outcome:
    """Find √a by gradient descent and by Newton's method.

    Formula: x ← x − f'(x) / (3x²) for f(x) = (x² − a)² / 4; Newton: x ← (x + a / x) / 2
    Source: Heron of Alexandria, "Metrica"; Newton 1669
    Mistake: A fixed step that works for a = 2: it diverges for a large a, where the curvature is 2a.
    Code: lit_modules/functional/numerics.py
    Picture: the error of each step for √2
    """
    roots, names = (functional.sqrt_gradient_descent, functional.sqrt_newton), ("gradient descent", "Newton")
    results = [
        Result(
            f"√2 by {name}: the first steps",
            numbers(*root(2.0).iterates[:5]),
            "recurrence",
            numbers(*_recurrence(2.0, rate)),
            columns=("start", "1", "2", "3", "4"),
        )
        for root, name, rate in zip(roots, names, (1 / 3, 1 / 2), strict=True)
    ]
    results += [
        Result(
            f"√1000000 by {name}",
            root(1e6).value,
            "math.sqrt",
            math.sqrt(1e6),
            wrong=("step 0.1", sqrt_fixed_step(1e6)[-1]) if name == "gradient descent" else None,
        )
        for root, name in zip(roots, names, strict=True)
    ]
    return Outcome(inputs={"a": numbers(2, 1e6)}, results=results)


def _recurrence(a: float, rate: float) -> list[float]:
    """Iterate x ← x − rate (x² − a) / x from 2."""
    steps = [2.0]
    for _ in range(4):
        steps.append(steps[-1] - rate * (steps[-1] ** 2 - a) / steps[-1])
    return steps

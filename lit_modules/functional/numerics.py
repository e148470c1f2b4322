"""Small numerical experiments: shuffling, sampling from a stream, π by chance, square roots by descent."""

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple, TypeVar

import torch

Item = TypeVar("Item")

_DRAWS_AT_ONCE = 1024
_POINTS_AT_ONCE = 2**20


def _random_integers(generator: torch.Generator) -> Iterator[int]:
    """Uniform integers in [0, 2⁶²) without end; their remainder by m is uniform to within m / 2⁶²."""
    while True:
        yield from torch.randint(
            2**62, (_DRAWS_AT_ONCE,), generator=generator, device=generator.device
        ).tolist()


def fisher_yates_shuffle(items: Sequence[Item], *, generator: torch.Generator) -> list[Item]:
    """The items in a random order, all n! of them equally likely.

    From the end, each place is given one of the items not placed yet, itself included: to draw from all n
    places each time, or from those before it alone, favours some orders. Durstenfeld, Algorithm 235 (1964).

    Args:
        items: What to shuffle; left as it is.
        generator: Where the randomness comes from.

    Returns:
        A new list.
    """
    shuffled = list(items)
    for last, draw in zip(range(len(shuffled) - 1, 0, -1), _random_integers(generator), strict=False):
        pick = draw % (last + 1)
        shuffled[last], shuffled[pick] = shuffled[pick], shuffled[last]
    return shuffled


def reservoir_sample(items: Iterable[Item], k: int, *, generator: torch.Generator) -> list[Item]:
    """k of the items, every one equally likely to be among them, in one pass and O(k) memory.

    The n-th item is kept with probability k / n, in the place of one that is kept so far. Vitter, "Random
    Sampling with a Reservoir" (1985), Algorithm R.

    Args:
        items: Any iterable; its length needn't be known.
        k: How many to keep. If there are no more than k items, all are kept, in their order.
        generator: Where the randomness comes from.

    Returns:
        min(k, n) items. Where an item lies in the list isn't random; shuffle it if that matters.

    Raises:
        ValueError: a negative k.
    """
    if k < 0:
        raise ValueError(f"k must not be negative; got {k}")
    reservoir: list[Item] = []
    draws = _random_integers(generator)
    for n, item in enumerate(items, start=1):
        if n <= k:
            reservoir.append(item)
        elif (place := next(draws) % n) < k:
            reservoir[place] = item
    return reservoir


class PiEstimate(NamedTuple):
    """An estimate of π and the interval that holds π with the confidence asked for."""

    value: float
    low: float
    high: float


def monte_carlo_pi(n: int, *, generator: torch.Generator, confidence: float = 0.95) -> PiEstimate:
    """Four times the share of n random points of the unit square that lie in the quarter disc.

    The interval is Wilson's score interval for that share (1927), times four: unlike ±z √(p (1 − p) / n) it
    isn't empty when no point, or every one, lies inside. It shrinks with 1 / √n.

    Args:
        n: How many points.
        generator: Where the randomness comes from.
        confidence: How often such an interval holds π, in (0, 1).

    Raises:
        ValueError: n below 1, a `confidence` out of range.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1); got {confidence}")
    inside = 0
    for start in range(0, n, _POINTS_AT_ONCE):
        size = (2, min(_POINTS_AT_ONCE, n - start))
        x, y = torch.rand(size, generator=generator, device=generator.device, dtype=torch.float64)
        inside += int((x.square() + y.square() <= 1).sum())
    share = inside / n
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    # The share lies within, but at 0 and 1, where it is an end of the interval, rounding may put it outside.
    return PiEstimate(4 * share, 4 * min(centre - reach, share), 4 * max(centre + reach, share))


class SquareRoot(NamedTuple):
    """√a to within a few units in the last place, and the iterates on the way, the start first."""

    value: float
    iterates: list[float]


def sqrt_gradient_descent(a: float) -> SquareRoot:
    """√a by gradient descent on f(x) = (x² − a)² / 4, whose minimum it is.

    f'(x) = x (x² − a). A fixed step that suits a = 2 diverges for a large a, as the curvature 3x² − a grows
    with it. The step here is 1 / (3x²), as short as the curvature anywhere between √a and x asks for, so

        x − f'(x) / (3x²) = x − (x − a/x) / 3

    falls towards √a and never past it (the mean of x, x and a/x is at least ∛(x a) ≥ √a), and near it leaves
    a third of the error. The start is within a factor of 2, by the exponent of a; the end is where rounding
    stops the fall.

    Args:
        a: Not negative, finite.

    Raises:
        ValueError: a negative `a`, or one that isn't finite.
    """
    return _descend(a, rate=1 / 3)


def sqrt_newton(a: float) -> SquareRoot:
    """√a by Newton's method on x² − a: x − (x² − a) / (2x) = x − (x − a/x) / 2, Heron's rule.

    It starts, and ends, as the gradient descent does; near √a each step doubles the correct digits.

    Args:
        a: Not negative, finite.

    Raises:
        ValueError: a negative `a`, or one that isn't finite.
    """
    return _descend(a, rate=1 / 2)


def _descend(a: float, *, rate: float) -> SquareRoot:
    """x − rate · (x − a/x) from above √a, until it stops falling. As nothing is squared, none overflows."""
    if not (a >= 0 and math.isfinite(a)):
        raise ValueError(f"a square root needs a finite number that isn't negative; got {a}")
    if a == 0:
        return SquareRoot(0.0, [0.0])
    _, exponent = math.frexp(a)  # a < 2^exponent
    iterates = [math.ldexp(1.0, (exponent + 1) // 2)]
    while (x := iterates[-1]) > (following := x - rate * (x - a / x)):
        iterates.append(following)
    return SquareRoot(iterates[-1], iterates)

"""Small numerical experiments: shuffle, sample a stream, estimate π, find square roots by descent."""

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple, TypeVar

import torch

Item = TypeVar("Item")

_DRAWS_AT_ONCE = 1024
_POINTS_AT_ONCE = 2**20


def _random_integers(generator: torch.Generator) -> Iterator[int]:
    """Yield uniform integers in [0, 2⁶²) forever; their remainder by m is uniform to within m / 2⁶²."""
    while True:
        yield from torch.randint(
            2**62, (_DRAWS_AT_ONCE,), generator=generator, device=generator.device
        ).tolist()


def fisher_yates_shuffle(items: Sequence[Item], *, generator: torch.Generator) -> list[Item]:
    """Return a new list of the items in a random order; all n! orders are equally likely.

    Each place, from the last to the first, gets a random one of the items that are not placed yet.
    To draw from all n places each time, or only from the places before, would favour some orders.

    Source: Durstenfeld, Algorithm 235 (1964).
    """
    shuffled = list(items)
    for last, draw in zip(range(len(shuffled) - 1, 0, -1), _random_integers(generator), strict=False):
        pick = draw % (last + 1)
        shuffled[last], shuffled[pick] = shuffled[pick], shuffled[last]
    return shuffled


def reservoir_sample(items: Iterable[Item], k: int, *, generator: torch.Generator) -> list[Item]:
    """Sample k items with equal probability, in one pass and O(k) memory.

    The n-th item is kept with probability k / n and then replaces a random item kept before.

    Source: Vitter, "Random Sampling with a Reservoir" (1985), Algorithm R.

    If there are at most k items, all are kept in their order.

    Returns:
        min(k, n) items. Their order is not random; shuffle the list if you need that.

    Raises:
        ValueError: `k` is negative.
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
    """An estimate of π, and an interval that holds π with the requested confidence."""

    value: float
    low: float
    high: float


def monte_carlo_pi(n: int, *, generator: torch.Generator, confidence: float = 0.95) -> PiEstimate:
    """Estimate π: four times the share of n random points of the unit square inside the quarter disc.

    The interval is four times Wilson's score interval of the share (1927). Unlike ±z √(p (1 − p) / n), it has
    a positive width even if no point or every point is inside. Its width falls with 1 / √n.

    Raises:
        ValueError: `n` is below 1, or `confidence` is out of range.
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
    # A share of 0 or 1 is an end of the interval, and rounding could put it outside.
    return PiEstimate(4 * share, 4 * min(centre - reach, share), 4 * max(centre + reach, share))


class SquareRoot(NamedTuple):
    """√a to within a few units in the last place, and the iterates, starting with the first guess."""

    value: float
    iterates: list[float]


def sqrt_gradient_descent(a: float) -> SquareRoot:
    """Compute √a by gradient descent on f(x) = (x² − a)² / 4, which is minimal at √a.

    f'(x) = x (x² − a). A fixed step size that works for a = 2 diverges for a large a, because the curvature
    3x² − a grows with it. The step size here is 1 / (3x²), small enough for the curvature between √a and x:

        x − f'(x) / (3x²) = x − (x − a/x) / 3

    falls towards √a and never below it (the mean of x, x and a/x is at least ∛(x a) ≥ √a). Near √a each step
    leaves a third of the error. The first guess comes from the exponent of a and is within a factor of 2. The
    descent stops when rounding stops it.

    Raises:
        ValueError: `a` is negative or not finite.
    """
    return _descend(a, rate=1 / 3)


def sqrt_newton(a: float) -> SquareRoot:
    """Compute √a by Newton's method on x² − a: x − (x² − a) / (2x) = x − (x − a/x) / 2, Heron's rule.

    It starts and stops like `sqrt_gradient_descent`. Near √a each step doubles the number of correct digits.

    Raises:
        ValueError: `a` is negative or not finite.
    """
    return _descend(a, rate=1 / 2)


def _descend(a: float, *, rate: float) -> SquareRoot:
    """Iterate x − rate · (x − a/x) from above √a until x stops falling; without squares nothing overflows."""
    if not (a >= 0 and math.isfinite(a)):
        raise ValueError(f"a must be finite and not negative; got {a}")
    if a == 0:
        return SquareRoot(0.0, [0.0])
    _, exponent = math.frexp(a)  # a < 2^exponent
    iterates = [math.ldexp(1.0, (exponent + 1) // 2)]
    while (x := iterates[-1]) > (following := x - rate * (x - a / x)):
        iterates.append(following)
    return SquareRoot(iterates[-1], iterates)

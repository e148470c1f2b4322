"""Random trials, and the two mistakes that they reveal."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import torch

TRIALS = 12_000


def shares(trial: Callable[[], Iterable[str]], items: Sequence[str]) -> list[float]:
    """Repeat a trial, and return the share of the trials that return each item."""
    counts = Counter(item for _ in range(TRIALS) for item in trial())
    return [counts[item] / TRIALS for item in items]


def shuffle_from_all_places(items: str, generator: torch.Generator) -> str:
    """WRONG shuffle: each place is exchanged with any of the n places."""
    shuffled = list(items)
    draws = torch.randint(len(items), (len(items),), generator=generator).tolist()
    for place, other in enumerate(draws):
        shuffled[place], shuffled[other] = shuffled[other], shuffled[place]
    return "".join(shuffled)


def reservoir_off_by_one(items: str, k: int, generator: torch.Generator) -> list[str]:
    """WRONG reservoir: item n is kept with probability k / (n − 1)."""
    kept = list(items[:k])
    for n, item in enumerate(items[k:], start=k + 1):
        place = int(torch.randint(n - 1, (), generator=generator))
        if place < k:
            kept[place] = item
    return kept


def sqrt_fixed_step(a: float, *, rate: float = 0.1, steps: int = 30) -> list[float]:
    """WRONG descent on (x² − a)² / 4 for a large a: the step does not fit the curvature 2a."""
    iterates = [1.0]
    for _ in range(steps):
        x = iterates[-1]
        iterates.append(x - rate * x * (x * x - a))
    return iterates

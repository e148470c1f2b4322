"""Windows of tokens: targets, their number, ranks, and resuming."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.loading.epoch_loader import EpochLoader
from datamodules.loading.token_windows import (
    IGNORED,
    OrderedWindows,
    RandomWindows,
    StreamWindows,
    as_tensor,
    gather,
)


def counting(size: int) -> Tensor:
    """Return tokens that equal their positions."""
    return as_tensor(np.arange(size, dtype=np.uint16))


def shifted(x: Tensor, y: Tensor) -> bool:
    """Tell whether each target is the token after its input, or ignored."""
    return bool(((y == x + 1) | (y == IGNORED)).all()) and x.dtype == y.dtype == torch.int64


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_ids_above_the_signed_range_are_kept(dtype: type) -> None:
    top = np.iinfo(dtype).max
    tokens = as_tensor(np.array([0, top, top // 2, top // 2 + 1, 5], dtype=dtype))
    x, y = gather(tokens, torch.tensor([0, 1]), 3)
    assert x.tolist() == [[0, top, top // 2], [top, top // 2, top // 2 + 1]]
    assert y.tolist() == [[top, top // 2, top // 2 + 1], [top // 2, top // 2 + 1, 5]]
    assert x.is_contiguous()
    assert y.is_contiguous()


def random_windows(size: int = 50, **options: Any) -> RandomWindows:
    return RandomWindows(
        counting(size), **{"context_length": 8, "batch_size": 4, "steps": 5, "seed": 3, **options}
    )


def test_random_windows_are_inside_the_text_and_targets_shifted_by_one() -> None:
    loader = random_windows()
    batches = list(loader)
    assert len(batches) == len(loader) == 5
    for x, y in batches:
        assert x.shape == y.shape == (4, 8)
        assert (y == x + 1).all()
        assert (x[:, 1:] == x[:, :-1] + 1).all()
        assert x.min() >= 0
        assert y.max() <= 49


def test_every_place_is_as_likely_as_any_other() -> None:
    loader = random_windows(12, batch_size=1000, steps=12)
    starts = torch.cat([x[:, 0] for x, _ in loader]).bincount()
    assert len(starts) == 4  # 0 … 3: a window of 8 and its targets take 9 of 12
    chi2 = ((starts - 3000.0) ** 2 / 3000).sum()
    assert chi2 < 16.3  # 99.9 % of fair draws


def test_a_text_of_one_window_has_one_start() -> None:
    for x, y in random_windows(9):
        assert (x == torch.arange(8)).all()
        assert (y == torch.arange(1, 9)).all()


def test_seed_and_epoch_decide() -> None:
    first = random_windows()
    epochs = [torch.stack([x for x, _ in first]) for _ in range(2)]
    assert not torch.equal(*epochs)
    assert torch.equal(torch.stack([x for x, _ in random_windows()]), epochs[0])
    assert not torch.equal(torch.stack([x for x, _ in random_windows(seed=4)]), epochs[0])


@pytest.mark.parametrize("world_size", [2, 3])
def test_random_batches_of_all_ranks_are_those_of_one_process(world_size: int) -> None:
    ranks = [list(random_windows(rank=r, world_size=world_size)) for r in range(world_size)]
    alone = list(random_windows(batch_size=4 * world_size))
    for whole, *shards in zip(alone, *ranks, strict=True):
        assert torch.equal(whole[0], torch.cat([x for x, _ in shards]))


def ordered(size: int, **options: Any) -> OrderedWindows:
    return OrderedWindows(counting(size), **{"context_length": 8, "batch_size": 3, **options})


def streams(size: int, **options: Any) -> StreamWindows:
    return StreamWindows(counting(size), **{"context_length": 8, "streams": 3, **options})


@pytest.mark.parametrize("size", [25, 26, 33, 48, 49, 50, 97, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("make", [ordered, streams])
def test_each_token_but_the_first_is_a_target_exactly_once(make: Any, size: int, world_size: int) -> None:
    ranks = [list(make(size, rank=r, world_size=world_size)) for r in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1, "a rank with fewer batches would hang the others"
    served: Counter[int] = Counter()
    for x, y in (batch for rank in ranks for batch in rank):
        assert shifted(x, y)
        assert (y != IGNORED).any(), "a mean of nothing is NaN"
        served.update(y[y != IGNORED].tolist())
    assert served == Counter(range(1, size))


def test_ordered_windows_are_side_by_side_and_the_last_is_padded() -> None:
    batches = list(ordered(30))
    assert [tuple(x.shape) for x, _ in batches] == [(2, 8), (2, 8)]
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    assert x[:, 0].tolist() == [0, 8, 16, 24]
    assert y[3].tolist() == [25, 26, 27, 28, 29, IGNORED, IGNORED, IGNORED]
    assert x[3].tolist() == [24, 25, 26, 27, 28, 29, 29, 29]
    assert (y[:3] != IGNORED).all()


def test_a_split_shorter_than_a_window_is_one_window() -> None:
    ((_, y),) = list(ordered(3))
    assert y.tolist() == [[1, 2] + [IGNORED] * 6]


@pytest.mark.parametrize("size", [25, 50, 73, 100, 101, 102, 103])
def test_a_stream_continues_where_it_ended(size: int) -> None:
    loader = streams(size)
    batches = list(loader)
    assert len(batches) == len(loader) == math.ceil(math.ceil((size - 1) / 3) / 8)
    for (_, y), (following, _) in pairwise(batches):
        assert torch.equal(y[:, -1], following[:, 0])
        assert y.min() >= 0, "only a stream's end is left out"
    widths = [x.shape[1] for x, _ in batches]
    assert max(widths) - min(widths) <= 1
    assert max(widths) <= 8
    missing = (batches[-1][1] == IGNORED).sum(dim=1)
    assert missing.max() <= 1


def test_every_epoch_reads_the_streams_alike() -> None:
    loader = streams(100)
    first, second = list(loader), list(loader)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_streams_of_all_ranks_are_those_of_one_process(world_size: int) -> None:
    ranks = [list(streams(301, streams=5, rank=r, world_size=world_size)) for r in range(world_size)]
    alone = list(streams(301, streams=5))
    for whole, *shards in zip(alone, *ranks, strict=True):
        assert torch.equal(whole[0], torch.cat([x for x, _ in shards]))
        assert torch.equal(whole[1], torch.cat([y for _, y in shards]))


def make(kind: str) -> EpochLoader:
    return {
        "random": random_windows,
        "random, second of two ranks": lambda: random_windows(rank=1, world_size=2),
        "ordered": lambda: ordered(100),
        "streams": lambda: streams(100),
        "streams, second of two ranks": lambda: streams(200, rank=1, world_size=2),
        "limited": lambda: streams(200, max_batches=3),
    }[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "random",
        "random, second of two ranks",
        "ordered",
        "streams",
        "streams, second of two ranks",
        "limited",
    ],
)
@pytest.mark.parametrize("stop", range(11))
def test_resuming_at_any_batch_gives_the_same_batches(kind: str, stop: int) -> None:
    def epochs(loader: EpochLoader) -> Iterator[Any]:
        while True:
            yield from loader

    expected = list(islice(epochs(make(kind)), 14))
    interrupted = make(kind)
    before = list(islice(epochs(interrupted), stop))
    resumed = make(kind)
    resumed.load_state_dict(json.loads(json.dumps(interrupted.state_dict())))
    pieces = before + list(islice(epochs(resumed), 14 - stop))
    for (x, y), (wanted_x, wanted_y) in zip(pieces, expected, strict=True):
        assert torch.equal(x, wanted_x)
        assert torch.equal(y, wanted_y)


def test_nothing_touches_the_global_generator() -> None:
    before = torch.get_rng_state()
    for kind in ("random", "ordered", "streams"):
        list(make(kind))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: random_windows(8),
            "8 tokens are too few for a window of 8 and its targets: at least 9 are needed",
        ),
        (lambda: streams(24), "24 tokens are too few for 3 streams of windows of 8: at least 25 are needed"),
        (lambda: streams(48, streams=6, world_size=2), "48 tokens are too few for 6 streams"),
        (lambda: ordered(1), "0 samples are too few"),
        (lambda: ordered(9, world_size=2), "1 samples are too few"),
    ],
)
def test_too_few_tokens_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()

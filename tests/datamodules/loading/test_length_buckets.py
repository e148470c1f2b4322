"""Batches of equally long rows: nothing lost, little padding, the same for any number of processes."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.loading.length_buckets import LengthBuckets
from datamodules.loading.token_rows import padded_rows, row_lengths


def pairs(count: int = 103) -> tuple[Tensor, Tensor]:
    """Rows whose first token is their number."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (count, 2), generator=generator).tolist()
    return tuple(
        padded_rows([[10 + i, *[1] * (row[part] - 1)] for i, row in enumerate(lengths)]) for part in (0, 1)
    )


def buckets(count: int = 103, **options: Any) -> LengthBuckets:
    return LengthBuckets(pairs(count), **{"batch_size": 8, "seed": 3, **options})


def numbers(batch: tuple[Tensor, ...]) -> list[int]:
    return (batch[0][:, 0] - 10).tolist()


@pytest.mark.parametrize("options", [{}, {"batch_size": 64, "unit": "tokens"}, {"batch_size": 1}])
def test_an_epoch_serves_each_row_once_and_whole(options: dict[str, Any]) -> None:
    source, target = pairs()
    loader = buckets(**options)
    seen: Counter[int] = Counter()
    for batch in loader:
        assert [part.shape[1] for part in batch] == [int(row_lengths(part).max()) for part in batch]
        for row, ours, theirs in zip(numbers(batch), *batch, strict=True):
            seen[row] += 1
            for mine, whole in ((ours, source[row]), (theirs, target[row])):
                assert mine[mine != 0].tolist() == whole[whole != 0].tolist()
    assert seen == Counter(range(103))


def test_batches_are_nearly_equal_in_rows() -> None:
    sizes = [len(batch[0]) for batch in buckets()]
    assert len(sizes) == len(buckets()) == 13
    assert set(sizes) == {7, 8}


def test_batches_are_nearly_equal_in_tokens() -> None:
    loader = buckets(batch_size=64, unit="tokens")
    tokens = [sum(int(row_lengths(part).sum()) for part in batch) for batch in loader]
    longest = 2 * 8
    assert max(tokens) < 64 + longest
    assert max(tokens) - min(tokens) < 2 * longest
    sizes = {len(batch[0]) for batch in loader}
    assert max(sizes) > 2 * min(sizes)  # many short rows take as long as a few long ones


def test_a_row_that_is_more_than_a_batch_is_one() -> None:
    loader = buckets(batch_size=3, unit="tokens")
    sizes = [len(batch[0]) for batch in loader]
    assert len(sizes) == len(loader)
    assert sum(sizes) == 103
    assert min(sizes) == 1


def test_little_of_a_batch_is_padding() -> None:
    source, target = pairs(3000)
    filled = sum(int(row_lengths(part).sum()) for part in (source, target))
    served = sum(part.numel() for batch in buckets(3000, batch_size=16) for part in batch)
    assert filled / (source.numel() + target.numel()) < 0.6
    assert filled / served > 0.95


def test_epochs_differ_in_who_meets_and_in_order_but_not_in_shapes() -> None:
    loader = buckets(1000)
    first, second = list(loader), list(loader)
    assert Counter(batch[0].shape for batch in first) == Counter(batch[0].shape for batch in second)
    assert [batch[0].shape for batch in first] != [batch[0].shape for batch in second]
    groups = [{tuple(sorted(numbers(batch))) for batch in epoch} for epoch in (first, second)]
    assert len(groups[0] & groups[1]) < len(groups[0]) / 2
    again = list(buckets(1000))
    assert all(
        torch.equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert [numbers(batch) for batch in buckets(1000, seed=4)] != [numbers(batch) for batch in first]


@pytest.mark.parametrize("options", [{"batch_size": 4}, {"batch_size": 32, "unit": "tokens"}])
@pytest.mark.parametrize("world_size", [2, 3])
def test_batches_of_all_ranks_together_are_those_of_one_process(
    world_size: int, options: dict[str, Any]
) -> None:
    rows = 34 * world_size
    ranks = [list(buckets(rows, rank=r, world_size=world_size, **options)) for r in range(world_size)]
    alone = list(buckets(rows, **{**options, "batch_size": options["batch_size"] * world_size}))
    assert {len(rank) for rank in ranks} == {len(ranks[0])}
    for shards in zip(*ranks, strict=True):
        assert len({tuple(part.shape for part in shard) for shard in shards}) == 1
    served = [row for rank in ranks for batch in rank for row in numbers(batch)]
    assert sorted(served) == list(range(rows))
    for whole, *shards in zip(alone, *ranks, strict=True):
        together = {row for shard in shards for row in numbers(shard)}
        assert len(together ^ set(numbers(whole))) <= 2 * (world_size - 1)  # at its first and its last


def test_of_rows_that_do_not_divide_the_shortest_sit_out() -> None:
    ranks = [buckets(rank=r, world_size=4) for r in range(4)]
    served = [row for rank in ranks for batch in rank for row in numbers(batch)]
    assert len(served) == len(set(served)) == 100
    source, _ = pairs()
    out = set(range(103)) - set(served)
    assert {int(n) for n in row_lengths(source)[sorted(out)]} == {1}


@pytest.mark.parametrize("stop", [0, 1, 6, 12, 13, 14])
@pytest.mark.parametrize("options", [{}, {"rank": 1, "world_size": 2}, {"max_batches": 5}])
def test_resuming_at_any_batch_goes_on_as_if_nothing_had_happened(stop: int, options: dict[str, Any]) -> None:
    def epochs(loader: LengthBuckets) -> Iterator[list[int]]:
        while True:
            for batch in loader:
                yield numbers(batch)

    expected = list(islice(epochs(buckets(**options)), 30))
    interrupted = buckets(**options)
    before = list(islice(epochs(interrupted), stop))
    state = json.loads(json.dumps(interrupted.state_dict()))
    resumed = buckets(**options)
    resumed.load_state_dict(state)
    assert before + list(islice(epochs(resumed), 30 - stop)) == expected


def test_order_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    list(buckets())
    assert torch.equal(before, torch.get_rng_state())


def test_what_cannot_be_served_is_refused() -> None:
    with pytest.raises(ValueError, match=r"their lengths are \[3, 2\]"):
        LengthBuckets((torch.ones(3, 2), torch.ones(2, 2)), batch_size=1)
    with pytest.raises(ValueError, match="1 rows are too few for one on each of 2"):
        buckets(1, world_size=2)
    with pytest.raises(ValueError, match="0 rows are too few"):
        buckets(0)

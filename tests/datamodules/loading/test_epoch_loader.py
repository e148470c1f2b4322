"""Order, shards and position of EpochLoader, seen through a loader that serves the indices themselves."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import pytest
import torch
from torch.utils.data import DistributedSampler

from datamodules.loading.epoch_loader import EpochLoader, mix_seed


class Indices(EpochLoader):
    def _serve(self, epoch: int, first: int) -> Iterator[list[int]]:
        order = self.order(epoch)
        for index in range(first, len(self)):
            yield order[self.batch_slice(index)].tolist()


def flat(batches: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def training(size: int = 23, **options: Any) -> Indices:
    return Indices(size, **{"batch_size": 4, "shuffle": True, "seed": 3, **options})


def test_an_epoch_is_a_permutation_and_the_next_is_another() -> None:
    loader = training()
    first, second = list(loader), list(loader)
    assert [len(batch) for batch in first] == [4, 4, 4, 4, 4, 3]
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(23))
    assert first != second
    assert list(training()) == first
    assert list(training(seed=4)) != first


def test_drop_last_leaves_the_smaller_batch_out() -> None:
    loader = training(drop_last=True)
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    assert {len(batch) for batch in batches} == {4}


@pytest.mark.parametrize("world_size", [2, 3])
def test_batches_of_all_ranks_together_are_those_of_one_process(world_size: int) -> None:
    ranks = [list(training(50, rank=r, world_size=world_size)) for r in range(world_size)]
    alone = list(training(50, batch_size=4 * world_size))
    for whole, *shards in zip(alone, *ranks, strict=False):
        assert len({len(shard) for shard in shards}) == 1, "ranks must see batches of equal size"
        together = flat(shards)
        assert together == whole[: len(together)]
    served = flat(flat(rank) for rank in ranks)
    assert len(served) == len(set(served)) > 50 - world_size
    assert len({len(rank) for rank in ranks}) == 1


@pytest.mark.parametrize("size", [3, 7, 10, 11, 12, 13, 25])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_partitions_exactly(size: int, batch_size: int, world_size: int) -> None:
    ranks = [
        Indices(size, batch_size=batch_size, shuffle=False, rank=r, world_size=world_size)
        for r in range(world_size)
    ]
    served = [list(loader) for loader in ranks]
    assert sorted(flat(flat(rank) for rank in served)) == list(range(size))
    assert [len(loader) for loader in ranks] == [len(rank) for rank in served]
    assert len({len(rank) for rank in served}) == 1, "a rank with fewer batches would hang the others"
    sizes = {len(batch) for rank in served for batch in rank}
    assert 0 < min(sizes) <= max(sizes) <= max(batch_size, 2 if world_size > 1 else 1)


def test_evaluation_shards_are_those_of_the_distributed_sampler() -> None:
    for rank in range(3):
        ours = flat(Indices(12, batch_size=3, shuffle=False, rank=rank, world_size=3))
        assert ours == list(DistributedSampler(range(12), num_replicas=3, rank=rank, shuffle=False))


@pytest.mark.parametrize("stop", range(13))
@pytest.mark.parametrize("options", [{}, {"rank": 1, "world_size": 2}, {"shuffle": False}])
def test_resuming_at_any_batch_goes_on_as_if_nothing_had_happened(stop: int, options: dict[str, Any]) -> None:
    def epochs(loader: Indices) -> Iterator[list[int]]:
        while True:
            yield from loader

    count = 18
    expected = list(islice(epochs(training(**options)), count))
    interrupted = training(**options)
    before = list(islice(epochs(interrupted), stop))
    state = json.loads(json.dumps(interrupted.state_dict()))
    resumed = training(**options)
    resumed.load_state_dict(state)
    after = list(islice(epochs(resumed), count - stop))
    assert before + after == expected


def test_position_is_that_of_the_next_batch_while_a_batch_is_in_use() -> None:
    loader = training()
    assert loader.state_dict() == {"epoch": 0, "batch": 0}
    states = [loader.state_dict() for _ in loader]
    assert states == [{"epoch": 0, "batch": b} for b in range(1, 6)] + [{"epoch": 1, "batch": 0}]


def test_an_epoch_left_early_is_over() -> None:
    loader, whole = training(), training()
    list(whole)
    next(iter(loader))
    assert list(loader) == list(whole)


def test_asking_twice_for_an_iterator_loses_nothing() -> None:
    loader = training()
    loader.load_state_dict({"epoch": 2, "batch": 3})
    iter(loader)
    second = iter(loader)
    iter(loader)
    rest = list(second)
    assert len(rest) == 3
    assert rest == [training().order(2)[4 * b : 4 * b + 4].tolist() for b in (3, 4, 5)]


def test_a_limited_epoch_ends_where_the_limit_says() -> None:
    loader = training(max_batches=2)
    assert len(loader) == len(list(loader)) == 2
    assert loader.state_dict() == {"epoch": 1, "batch": 0}
    assert len(training(max_batches=100)) == 6


def test_order_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    list(training())
    assert torch.equal(before, torch.get_rng_state())


def test_a_position_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="batch 6 of an epoch of 6 batches"):
        training().load_state_dict({"epoch": 0, "batch": 6})


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (3, {"drop_last": True}),
        (1, {"world_size": 2}),
        (1, {"world_size": 2, "shuffle": False}),
        (0, {}),
        (0, {"shuffle": False}),
    ],
)
def test_too_few_samples_are_refused(size: int, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{size} samples are too few"):
        training(size, **options)


def test_mixed_seeds_of_neighbours_differ_and_fit_a_generator() -> None:
    seeds = {mix_seed(a, b) for a in range(-1, 30) for b in range(30)} | {mix_seed(0), mix_seed(2**63)}
    assert len(seeds) == 31 * 30 + 2
    assert all(0 <= seed < 2**63 for seed in seeds)

"""All ranks hear of what one has seen at the same call, without talking at every one."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.callbacks.agreement import MOST_CALLS, Agreement


class Ranks:
    """Ranks in threads, whose reductions meet as a process group's would."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.barrier = threading.Barrier(world_size, timeout=20)
        self.given: list[Tensor] = [torch.empty(0)] * world_size
        self.exchanges = 0

    def trainer(self, rank: int) -> Any:
        def reduce(tensor: Tensor, reduce_op: str) -> Tensor:
            assert reduce_op == "max"
            self.given[rank] = tensor
            self.barrier.wait()
            greatest = torch.stack(self.given).amax(0)
            if self.barrier.wait() == 0:
                self.exchanges += 1
            return greatest

        strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=reduce)
        return SimpleNamespace(world_size=self.world_size, strategy=strategy)

    def run(self, calls: int, seconds: list[float], seen_at: int | None, now: int = -1) -> list[list[bool]]:
        """What each rank is told at each call, if rank 1 sees it and rank r's calls take `seconds[r]`."""
        told: list[list[bool]] = [[] for _ in range(self.world_size)]

        def work(rank: int) -> None:
            time = [0.0]
            agreement, trainer = Agreement(period=1.0, clock=lambda: time[0]), self.trainer(rank)
            for call in range(calls):
                time[0] += seconds[rank]
                seen = rank == 1 and seen_at is not None and call >= seen_at
                told[rank].append(agreement.any_rank(trainer, seen, now=call == now))

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.world_size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        return told


@pytest.mark.parametrize("seen_at", [0, 1, 37, 300])
def test_all_hear_of_it_at_the_same_call_within_a_period(seen_at: int) -> None:
    ranks = Ranks(3)
    # The slowest rank's 25 calls make a second, whatever the others' clocks say.
    told = ranks.run(400, [0.02, 0.03, 0.04], seen_at)
    assert told[0] == told[1] == told[2]
    heard = told[0].index(True)
    assert seen_at <= heard <= seen_at + 25
    assert all(told[0][heard:])
    assert ranks.exchanges <= 3 + 400 // 25


def test_short_steps_are_not_asked_after_too_rarely_nor_long_ones_too_often() -> None:
    quick, slow = Ranks(2), Ranks(2)
    quick.run(500, [1e-6, 1e-6], None)
    assert quick.exchanges == 2 + (500 - 2) // MOST_CALLS
    slow.run(20, [5.0, 0.1], None)
    assert slow.exchanges == 20


def test_where_it_matters_all_are_asked_at_once() -> None:
    ranks = Ranks(2)
    told = ranks.run(60, [1e-6, 1e-6], 40, now=45)
    assert told[0] == told[1]
    assert told[0].index(True) == 45


def test_a_single_process_sees_at_once_what_it_sees() -> None:
    trainer: Any = SimpleNamespace(world_size=1)
    agreement = Agreement()
    assert [agreement.any_rank(trainer, seen) for seen in (False, True)] == [False, True]

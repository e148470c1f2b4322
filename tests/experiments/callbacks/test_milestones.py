"""Validations come after the steps that were asked for, wherever epochs end, and a fit ends validated."""

import csv
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import experiments
from experiments.callbacks.milestones import MOST_CALLS, Agreement, Milestones, parts_over
from experiments.errors import UserError
from experiments.training import checkpoint

STEPS_PER_EPOCH = 6


def with_trainer(tiny: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {**tiny, "trainer": {**tiny["trainer"], "log_every_n_steps": 1, **settings}}


def validations(run_dir: Path) -> list[int]:
    """The optimizer steps after which a run validated: Lightning logs them one step early."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) + 1 for row in csv.DictReader(file) if row["name"] == "val/loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_epochs": 3, "check_val_every_n_steps": 4}, [4, 8, 12, 16, 18]),
        ({"max_epochs": 2, "check_val_every_n_steps": 6}, [6, 12]),
        ({"max_epochs": 1, "check_val_every_n_steps": 100}, [6]),
        ({"max_epochs": None, "max_steps": 14, "check_val_every_n_steps": 5}, [5, 10, 14]),
        ({"max_epochs": None, "max_steps": 12, "check_val_every_n_steps": 4}, [4, 8, 12]),
        ({"max_epochs": None, "max_steps": 8}, [6, 8]),
        # Two batches a step, of which an epoch of five has a half one: three steps an epoch.
        (
            {
                "max_epochs": 3,
                "check_val_every_n_steps": 2,
                "accumulate_grad_batches": 2,
                "limit_train_batches": 5,
            },
            [2, 4, 6, 8, 9],
        ),
    ],
    ids=["across epochs", "an epoch", "none but the last", "max_steps", "on max_steps", "epochs", "batches"],
)
def test_a_fit_validates_after_these_steps(
    settings: dict[str, Any], steps: list[int], tiny: dict[str, Any]
) -> None:
    result = experiments.run(with_trainer(tiny, **settings))
    assert validations(result.run_dir) == steps
    assert result.metrics["steps"] == steps[-1]
    last = checkpoint.load(result.run_dir / "checkpoints" / "last.ckpt")
    assert last["global_step"] == steps[-1]


def test_the_best_of_all_validations_is_kept(tiny: dict[str, Any]) -> None:
    """A schedule that ends in a rate that ruins everything: the best lies within an epoch."""
    tiny["optimizer"] = {"name": "sgd", "lr": 3.0, "momentum": 0.9}
    result = experiments.run(with_trainer(tiny, max_epochs=4, check_val_every_n_steps=1))
    with (result.run_dir / "metrics.csv").open(newline="") as file:
        losses = [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "val/loss"]
    assert len(losses) == 4 * STEPS_PER_EPOCH
    best = checkpoint.load(result.run_dir / "checkpoints" / "best.ckpt")
    assert best["global_step"] == losses.index(min(losses)) + 1
    assert best["global_step"] % STEPS_PER_EPOCH
    assert result.metrics["val/loss"] == min(losses)


def test_early_stopping_counts_validations_within_an_epoch(tiny: dict[str, Any]) -> None:
    tiny["optimizer"] = {"name": "sgd", "lr": 1e-30}
    result = experiments.run(
        with_trainer(tiny, max_epochs=9, check_val_every_n_steps=2, early_stopping_patience=3)
    )
    assert validations(result.run_dir) == [2, 4, 6, 8]
    assert result.metrics["steps"] == 8


def test_a_fit_ends_with_its_time_and_goes_on_with_more(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which every step takes a minute."""
    from experiments.callbacks.exact_resume import ExactResume

    clock = {"minutes": 0.0}
    monkeypatch.setattr(ExactResume, "seconds", lambda self: 60 * clock["minutes"])
    after_step = Milestones.on_train_batch_end

    def step(self: Milestones, *arguments: Any) -> None:
        clock["minutes"] += 1
        after_step(self, *arguments)

    monkeypatch.setattr(Milestones, "on_train_batch_end", step)
    settings = with_trainer(tiny, max_epochs=5, check_val_every_n_steps=3, max_minutes=7.5)
    settings["schedule"] = {"name": "constant"}
    cut = experiments.run(settings, "run_dir=cut")
    assert cut.metrics["steps"] == 8
    assert validations(cut.run_dir) == [3, 6, 8]
    assert experiments.run("resume=cut").metrics == cut.metrics
    longer = experiments.run("resume=cut", "trainer.max_minutes=12")
    assert longer.metrics["steps"] == 12
    assert validations(longer.run_dir) == [3, 6, 8, 9, 12]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_epochs": None}, "max_epochs and max_steps are both null"),
        ({"check_val_every_n_steps": 0}, r"trainer\.check_val_every_n_steps = 0"),
        ({"check_val_every_n_steps": 5, "check_val_every_n_epoch": 2}, "set only one of them"),
        ({"max_minutes": 0}, r"trainer\.max_minutes = 0"),
    ],
)
def test_what_fits_together_no_way_is_refused(
    settings: dict[str, Any], said: str, tiny: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=said):
        experiments.run(with_trainer(tiny, **settings))


def test_a_fit_that_its_time_ends_is_parted_by_the_clock() -> None:
    milestones = Milestones(max_minutes=1, clock=lambda: 45.0)
    trainer: Any = SimpleNamespace(callbacks=[milestones], global_step=10, max_steps=-1)
    assert parts_over(trainer, SimpleNamespace(total_steps=lambda: 1000), 10) == 7
    assert parts_over(trainer, SimpleNamespace(total_steps=lambda: 10), 10) == 10


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

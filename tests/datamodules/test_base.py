"""The smallest datamodules, asked what their loaders are told and what they serve."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from datamodules.base import PARTS, Part, ResidentDataModule
from datamodules.info import DataInfo
from datamodules.loading.epoch_loader import EpochLoader
from datamodules.loading.resident import Transform


@dataclass(kw_only=True)
class NumbersConfig:
    batch_size: int = 4
    eval_batch_size: int = 3


class Numbers(ResidentDataModule):
    """0 … 9 to train, 10 … 14 to validate, 15 … 19 to test; drawn numbers behind where it is asked."""

    setups = 0
    drawn = False

    def setup(self, stage: str | None = None) -> None:
        if self._info is not None:
            return
        self.setups += 1
        for name, rows in zip(PARTS, torch.arange(20).split([10, 5, 5]), strict=True):
            self._parts[name] = (rows,)
        self._info = DataInfo(train_size=10, val_size=5, test_size=5)

    def transform(self, part: Part) -> Transform | None:
        return (lambda batch, g: (*batch, torch.rand(1, generator=g))) if self.drawn else None


def numbers(*, seed: int = 0, device: str = "cpu", **trainer: float) -> Numbers:
    """Attached to a trainer, as far as a datamodule asks for one."""
    module = Numbers(NumbersConfig(), seed=seed)
    settings = {"global_rank": 0, "world_size": 1, "limit_train_batches": 1.0, **trainer}
    strategy = SimpleNamespace(root_device=torch.device(device))
    module.trainer = SimpleNamespace(strategy=strategy, **settings)  # type: ignore[assignment]
    return module


def served(loader: EpochLoader) -> list[int]:
    return [number for (rows,) in loader for number in rows.tolist()]


def test_the_training_part_is_shuffled_and_the_others_are_not() -> None:
    module = Numbers(NumbersConfig())
    assert module.info.train_size == 10
    train = served(module.train_dataloader())
    assert sorted(train) == list(range(10)) != train
    assert served(module.val_dataloader()) == [10, 11, 12, 13, 14]
    assert served(module.test_dataloader()) == [15, 16, 17, 18, 19]
    assert [len(rows) for (rows,) in module.train_dataloader()] == [4, 4, 2]
    assert max(len(rows) for (rows,) in module.test_dataloader()) == 3
    assert module.setups == 1


def test_the_seed_decides_the_order_and_what_is_drawn() -> None:
    def run(seed: int) -> list[Tensor]:
        module = numbers(seed=seed)
        module.drawn = True
        return [tensor for batch in module.train_dataloader() for tensor in batch]

    first, again, other = run(1), run(1), run(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_ranks_part_every_epoch_among_them() -> None:
    modules = [numbers(global_rank=rank, world_size=2) for rank in (0, 1)]
    for part in PARTS:
        first, second = (served(module.loader(part)) for module in modules)
        assert not set(first) & set(second)
        assert sorted(first + second) == numbers().split(part)[0].tolist()


@pytest.mark.parametrize(("limit", "batches"), [(2, 2), (1.0, 3), (0.5, 3), (9, 3)])
def test_only_a_number_of_training_batches_ends_an_epoch_in_the_loader(limit: float, batches: int) -> None:
    module = numbers(limit_train_batches=limit)
    assert len(module.train_dataloader()) == batches
    assert len(module.val_dataloader()) == len(module.test_dataloader()) == 2


def test_a_part_moves_to_the_training_device_once() -> None:
    module = numbers(device="meta")
    assert module.resident("val")[0].is_meta
    assert module.split("val")[0] is module.resident("val")[0]
    assert not module.split("test")[0].is_meta

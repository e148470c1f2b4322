"""What every datamodule of the suite shares: its config, three parts, and loaders that know their process."""

from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from datamodules.info import DataInfo
from datamodules.loading.epoch_loader import EpochLoader
from datamodules.loading.resident import ResidentLoader, Transform

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


class DataModule(L.LightningDataModule):
    """Data in three parts, each served by a loader whose position a checkpoint can hold.

    A subclass reads and parts its data in `setup`, which also makes `_info`, and serves a part in
    `loader`.

    Args:
        config: The data section of the experiment config.
        seed: The run's seed; decides the order of the training part.
    """

    def __init__(self, config: Any, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        self._info: DataInfo | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read and part the data; a second call changes nothing."""
        raise NotImplementedError

    def loader(self, part: Part) -> EpochLoader:
        """A part's batches; the training part's shuffled, the others' in stored order."""
        raise NotImplementedError

    @property
    def info(self) -> DataInfo:
        """The data's description, known after `setup`."""
        self.setup()
        assert self._info is not None
        return self._info

    def train_dataloader(self) -> EpochLoader:
        """The training part's loader."""
        return self.loader("train")

    def val_dataloader(self) -> EpochLoader:
        """The validation part's loader."""
        return self.loader("val")

    def test_dataloader(self) -> EpochLoader:
        """The test part's loader."""
        return self.loader("test")

    @property
    def device(self) -> torch.device:
        """What the attached trainer trains on; the CPU without one."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @property
    def ranks(self) -> dict[str, Any]:
        """A loader's `rank` and `world_size`."""
        trainer = self.trainer
        return {
            "rank": trainer.global_rank if trainer else 0,
            "world_size": trainer.world_size if trainer else 1,
        }

    def max_batches(self, part: Part) -> int | None:
        """Where the trainer ends an epoch.

        The loader must know it: the position after that is the next epoch's start.
        """
        limit = self.trainer.limit_train_batches if self.trainer and part == "train" else None
        return limit if isinstance(limit, int) else None


class ResidentDataModule(DataModule):
    """Parts that are tensors on the training device, a batch being one gather of their rows.

    A subclass makes `_parts` in `setup`; its config has `batch_size` and `eval_batch_size`.

    Args:
        config: The data section of the experiment config.
        seed: The run's seed; decides the order of the training part, and what a transform draws.
    """

    def __init__(self, config: Any, *, seed: int = 0) -> None:
        super().__init__(config, seed=seed)
        self._parts: dict[str, tuple[Tensor, ...]] = {}

    def split(self, name: str) -> tuple[Tensor, ...]:
        """A part as it is stored, tensors (N, …), on whatever device it is served from.

        Args:
            name: `"train"`, `"val"` or `"test"`.
        """
        self.setup()
        return self._parts[name]

    def transform(self, part: Part) -> Transform | None:
        """What a part's gathered batches go through."""
        return None

    def loader(self, part: Part) -> EpochLoader:
        return ResidentLoader(
            self.resident(part), transform=self.transform(part), device=self.device, **self.options(part)
        )

    def options(self, part: Part) -> dict[str, Any]:
        """What any loader of whole rows is told."""
        training = part == "train"
        return {
            "batch_size": self.config.batch_size if training else self.config.eval_batch_size,
            "shuffle": training,
            "seed": self.seed,
            "max_batches": self.max_batches(part),
            **self.ranks,
        }

    def resident(self, part: Part) -> tuple[Tensor, ...]:
        """A part on the training device; kept there, so that asking twice doesn't copy it twice."""
        self._parts[part] = tuple(rows.to(self.device) for rows in self.split(part))
        return self._parts[part]

"""The base of every datamodule: a config, three splits, and one loader per split."""

from typing import TYPE_CHECKING, Any, Literal

import lightning as L
import torch
from torch import Tensor

from datamodules.info import DataInfo
from datamodules.loading.epoch_loader import EpochLoader
from datamodules.loading.resident import ResidentLoader, Transform

if TYPE_CHECKING:
    from datamodules.tokenizers.tokenizer import Tokenizer

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


class DataModule(L.LightningDataModule):
    """Data in three splits, each served by a loader that can resume at any batch.

    A subclass reads and splits its data in `setup`, which also sets `_info`, and returns the batches of a
    split from `loader`.

    Args:
        config: The data section of the experiment config.
        seed: The seed of the run; it decides the order of the training split.

    Attributes:
        given_tokenizer: The tokenizer of a model that is trained further, which replaces that of the config.
    """

    def __init__(self, config: Any, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        self.given_tokenizer: Tokenizer | None = None
        self._info: DataInfo | None = None
        self.notes: list[str] = []  # lines for the user about what `setup` found

    def setup(self, stage: str | None = None) -> None:
        """Read and split the data; a second call changes nothing."""
        raise NotImplementedError

    def loader(self, part: Part) -> EpochLoader:
        """Return the batches of a split: shuffled for training, in stored order otherwise."""
        raise NotImplementedError

    @property
    def info(self) -> DataInfo:
        """The description of the data; reads the data if necessary."""
        self.setup()
        assert self._info is not None
        return self._info

    def train_dataloader(self) -> EpochLoader:
        """Return the loader of the training split."""
        return self.loader("train")

    def val_dataloader(self) -> EpochLoader:
        """Return the loader of the validation split."""
        return self.loader("val")

    def test_dataloader(self) -> EpochLoader:
        """Return the loader of the test split."""
        return self.loader("test")

    @property
    def device(self) -> torch.device:
        """The device of the attached trainer; without a trainer the CPU."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @property
    def rank(self) -> int:
        """Index of this process."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.trainer.world_size if self.trainer else 1

    def max_batches(self, part: Part) -> int | None:
        """Return the number of batches after which the trainer ends an epoch, or `None` for all.

        A loader needs this number, because its position after the last batch is the start of the next epoch.
        """
        limit = getattr(self.trainer, f"limit_{part}_batches", None)
        return limit if isinstance(limit, int) else None


class ResidentDataModule(DataModule):
    """Splits that are tensors on the training device, so that a batch is one gather of rows.

    A subclass sets `_parts` in `setup`. Its config has `batch_size` and `eval_batch_size`.
    """

    def __init__(self, config: Any, *, seed: int = 0) -> None:
        super().__init__(config, seed=seed)
        self._parts: dict[str, tuple[Tensor, ...]] = {}

    def split(self, name: str) -> tuple[Tensor, ...]:
        """Return a split as it is stored: tensors (N, …).

        Args:
            name: `"train"`, `"val"` or `"test"`.
        """
        self.setup()
        return self._parts[name]

    def transform(self, part: Part) -> Transform | None:
        """Return the transform of every gathered batch of a split."""
        return None

    @property
    def drop_last(self) -> bool:
        """Whether a training epoch leaves out a smaller last batch."""
        return False

    def batch_size(self, part: Part) -> int:
        """Return the number of samples per batch and process."""
        return self.config.batch_size if part == "train" else self.config.eval_batch_size

    def loader(self, part: Part) -> EpochLoader:
        """Return the batches of a split, made on the training device."""
        return ResidentLoader(
            self.resident(part),
            batch_size=self.batch_size(part),
            shuffle=part == "train",
            seed=self.seed,
            drop_last=part == "train" and self.drop_last,
            transform=self.transform(part),
            rank=self.rank,
            world_size=self.world_size,
            device=self.device,
            max_batches=self.max_batches(part),
        )

    def resident(self, part: Part) -> tuple[Tensor, ...]:
        """Move a split to the training device and keep it there, so that it is copied only once."""
        self._parts[part] = tuple(rows.to(self.device) for rows in self.split(part))
        return self._parts[part]

"""The one-word lesson: "hello" is read, "ohlol" is answered, and that is all the data there is."""

import lightning as L
import torch

from datamodules.hello_config import HelloConfig
from datamodules.info import DataInfo
from datamodules.resident import ResidentLoader


class HelloDataModule(L.LightningDataModule):
    """One sequence and its answer, (x, y), int64 (1, T) each, for training, validation and test alike.

    A character's index is its place in the sorted alphabet of both: e h l o.

    Args:
        config: The data section of the experiment config.
        seed: The run's seed; there is nothing to shuffle.
    """

    def __init__(self, config: HelloConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = tuple(sorted({*config.text, *config.target}))

    @property
    def info(self) -> DataInfo:
        """The data's description."""
        return DataInfo(
            class_names=self.vocabulary,
            vocab_size=len(self.vocabulary),
            context_length=len(self.config.text),
            train_size=1,
            val_size=1,
            test_size=1,
        )

    def train_dataloader(self) -> ResidentLoader:
        """The pair, once an epoch."""
        trainer = self.trainer
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        return ResidentLoader(
            (self._sequence(self.config.text), self._sequence(self.config.target)),
            batch_size=1,
            shuffle=False,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            device=device,
        )

    def _sequence(self, text: str) -> torch.Tensor:
        """Characters as indices, int64 (1, T)."""
        return torch.tensor([[self.vocabulary.index(character) for character in text]])

    val_dataloader = train_dataloader
    test_dataloader = train_dataloader

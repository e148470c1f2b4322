"""The one-word lesson: "hello" is read, "ohlol" is answered, and that is all the data there is."""

import torch

from datamodules.base import DataModule, Part
from datamodules.configs.hello import HelloConfig
from datamodules.info import SequenceLabellingInfo
from datamodules.loading.resident import ResidentLoader


class HelloDataModule(DataModule):
    """One sequence and its answer, (x, y), int64 (1, T) each, for training, validation and test alike.

    A character's index is its place in the sorted alphabet of both: e h l o.

    Args:
        config: The data section of the experiment config.
        seed: The run's seed; there is nothing to shuffle.
    """

    config: HelloConfig
    info: SequenceLabellingInfo

    def setup(self, stage: str | None = None) -> None:
        """Find the alphabet."""
        vocabulary = tuple(sorted({*self.config.text, *self.config.target}))
        self._info = SequenceLabellingInfo(
            class_names=vocabulary,
            vocab_size=len(vocabulary),
            context_length=len(self.config.text),
            train_size=1,
            val_size=1,
            test_size=1,
        )

    def loader(self, part: Part) -> ResidentLoader:
        """The pair, once an epoch."""
        pair = self._sequence(self.config.text), self._sequence(self.config.target)
        return ResidentLoader(
            pair,
            batch_size=1,
            shuffle=False,
            rank=self.rank,
            world_size=self.world_size,
            device=self.device,
        )

    def _sequence(self, text: str) -> torch.Tensor:
        """Characters as indices, int64 (1, T)."""
        return torch.tensor([[self.info.class_names.index(character) for character in text]])

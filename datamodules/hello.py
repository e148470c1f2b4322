"""The one-word lesson: the network reads "hello" and answers "ohlol"; there is no other data."""

import torch

from datamodules.base import DataModule, Part
from datamodules.configs.hello import HelloConfig
from datamodules.info import SequenceLabellingInfo
from datamodules.loading.resident import ResidentLoader


class HelloDataModule(DataModule):
    """One sequence and its answer, (x, y), int64 (1, T) each; all three splits are this pair.

    The index of a character is its position in the sorted alphabet of both words: e h l o.
    """

    config: HelloConfig
    info: SequenceLabellingInfo

    def setup(self, stage: str | None = None) -> None:
        """Collect the alphabet."""
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
        """Return the pair as the only batch of an epoch."""
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
        """Return characters as indices, int64 (1, T)."""
        return torch.tensor([[self.info.class_names.index(character) for character in text]])

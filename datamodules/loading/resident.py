"""Batches from tensors on the training device: one gather per batch, no Python per sample."""

import os
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from datamodules.loading.epoch_loader import EpochLoader, mix_seed

Batch = tuple[Tensor, ...]
Transform = Callable[[Batch, torch.Generator], Batch]


class ResidentLoader(EpochLoader):
    """Serve batches from tensors with the same first dimension, in the order of `EpochLoader`.

    The arguments that are not described here are those of `EpochLoader`.

    Args:
        tensors: Tensors (N, …); the constructor moves them to `device`.
        transform: Function from a gathered batch to the batch that is served. Its generator, on `device`, is
            seeded by (seed, epoch, batch, rank), so a resumed run draws the same numbers, and the global
            generator is not used.
        device: Device of the tensors and the batches.

    Raises:
        ValueError: The tensors differ in length, or there are too few samples for one batch on each rank.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        drop_last: bool = False,
        transform: Transform | None = None,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        max_batches: int | None = None,
    ) -> None:
        lengths = [len(t) for t in tensors]
        if len(set(lengths)) != 1:
            raise ValueError(f"tensors must have the same length, but their lengths are {lengths}")
        super().__init__(
            lengths[0],
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
            max_batches=max_batches,
        )
        self.device = torch.device(device)
        self.tensors = tuple(t.to(self.device) for t in tensors)
        self.transform = transform
        self._generator = torch.Generator(device=self.device)

    def _serve(self, epoch: int, first: int) -> Iterator[Batch]:
        order = self.order(epoch).to(self.device)
        for index in range(first, len(self)):
            chosen = order[self.batch_slice(index)]
            batch = tuple(t.index_select(0, chosen) for t in self.tensors)
            if self.transform is not None:
                self._generator.manual_seed(mix_seed(self.seed, epoch, index, self.rank))
                batch = self.transform(batch, self._generator)
            yield batch


def machine_memory() -> float:
    """Return the bytes of memory of the machine; infinity where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a Unix
        return float("inf")

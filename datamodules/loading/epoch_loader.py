"""The order of samples: a seeded, sharded, resumable pass over a data set.

The order is a pure function of (seed, epoch), so the state of a loader is only its position.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def mix_seed(*parts: int) -> int:
    """Hash integers to a 63-bit seed, so that neighbouring (seed, epoch, batch) give unrelated numbers."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class EpochLoader(ABC):
    """A sized iterable of batches that can stop after any batch and continue in another process.

    Training (`shuffle=True`): each epoch is a new permutation. All ranks get the same number of batches of
    the same size. Batch b of all ranks together is the batch that one process would get with a batch size
    `world_size` times as large. If the ranks can't share the last batch equally, an epoch leaves out fewer
    than `world_size` samples.

    Evaluation (`shuffle=False`): rank r serves samples r, r + world_size, …, each exactly once, in batches of
    nearly equal size. All ranks have the same number of batches, because a rank with one batch fewer would
    block the others in a collective. So a batch may have two samples with a batch size of 1.

    The position is that of the *next* batch. It moves before a batch is served, so a checkpoint that is
    written while the batch is in use resumes after it. After the last batch of an epoch, the position is the
    start of the next epoch. Each `iter` starts a new epoch, even if the previous one was left early; only
    after `load_state_dict` it continues within the epoch. The position does not move before the first `next`.

    Args:
        size: Number of samples.
        batch_size: Number of samples per batch and rank.
        shuffle: True for training, False for evaluation.
        seed: Seed of the permutations.
        drop_last: Leave out the last batch of a training epoch if it is smaller.
        rank: Index of this process.
        world_size: Number of processes.
        max_batches: End each epoch after this many batches.

    Raises:
        ValueError: There are too few samples for one batch on each rank.
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        max_batches: int | None = None,
    ) -> None:
        assert 0 <= rank < world_size
        self.size = size
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        if shuffle:
            full, rest = divmod(size, batch_size * world_size)
            self._full, self._rest = full, 0 if drop_last else rest // world_size
            batches = full + (self._rest > 0)
        else:
            batches = min(math.ceil(math.ceil(size / world_size) / batch_size), size // world_size)
        if batches == 0:
            needed = batch_size * world_size if shuffle and drop_last else world_size
            raise ValueError(
                f"{size} samples are too few for one batch on each of {world_size} processes; "
                f"at least {needed} are needed"
            )
        self._batches_in_epoch = batches
        self._length = batches if max_batches is None else min(batches, max_batches)
        self._epoch = 0
        self._next_batch = 0
        self._resuming = False

    @abstractmethod
    def _serve(self, epoch: int, first: int) -> Iterator[Any]:
        """Yield the epoch's batches `first` … `len(self) - 1`."""

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        if self._next_batch and not self._resuming:
            self._epoch, self._next_batch = self._epoch + 1, 0
        self._resuming = False
        epoch, first = self._epoch, self._next_batch
        for index, batch in enumerate(self._serve(epoch, first), start=first):
            wraps = index + 1 == len(self)
            self._epoch, self._next_batch = (epoch + 1, 0) if wraps else (epoch, index + 1)
            yield batch

    def smallest_batch(self, max_batches: int | None) -> int:
        """Return the size of the smallest training batch of an epoch that ends after `max_batches`."""
        ends_early = max_batches is not None and max_batches <= self._full
        return self.batch_size if ends_early or not self._rest else self._rest

    def order(self, epoch: int) -> Tensor:
        """Return the indices of this rank's samples in an epoch, in order, int64 (N_rank,)."""
        if not self.shuffle:
            return torch.arange(self.rank, self.size, self.world_size)
        generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch))
        order = torch.randperm(self.size, generator=generator)
        main, tail = order.split([self._full * self.batch_size * self.world_size, self._remainder()])
        main = main.view(self._full, self.world_size, self.batch_size)[:, self.rank].flatten()
        return torch.cat([main, tail[self.rank * self._rest : (self.rank + 1) * self._rest]])

    def batch_slice(self, index: int) -> slice:
        """Return the slice of `order` that a batch covers."""
        if self.shuffle:
            return slice(index * self.batch_size, (index + 1) * self.batch_size)
        own = len(range(self.rank, self.size, self.world_size))
        batches = self._batches_in_epoch
        return slice(index * own // batches, (index + 1) * own // batches)

    def state_dict(self) -> dict[str, int]:
        """Return the position of the next batch."""
        return {"epoch": self._epoch, "batch": self._next_batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Make the next `iter` continue from a position.

        Raises:
            ValueError: An epoch has no such batch, because the data or the batch size have changed.
        """
        if not 0 <= state["batch"] < len(self):
            raise ValueError(f"can't continue at batch {state['batch']} of an epoch of {len(self)} batches")
        self._epoch, self._next_batch = state["epoch"], state["batch"]
        self._resuming = True

    def _remainder(self) -> int:
        return self.size - self._full * self.batch_size * self.world_size

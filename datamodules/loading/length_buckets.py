"""Training batches of sequences that are about equally long, so that little of a batch is padding."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from datamodules.loading.epoch_loader import EpochLoader, mix_seed
from datamodules.loading.token_rows import row_lengths

Batch = tuple[Tensor, ...]


class LengthBuckets(EpochLoader):
    """Serve rows of tokens, each exactly once an epoch, in batches as narrow as their longest row.

    In each epoch the rows are shuffled and then sorted by the lengths of their parts, the longest first, so
    that chance decides who of the equally long share a batch. They are cut into batches, which are served in
    shuffled order. All epochs cut at the same places, for the sorted lengths are always the same. A batch is
    one gather.

    All ranks see equally many batches of equal shape; batch b of all ranks together is what one process would
    see with a batch `world_size` times as large, but for fewer than `world_size` rows at either end. As
    many of the shortest rows sit an epoch out.

    Args:
        parts: Tensors that share their first dimension, each int64 (N, T), padded behind; moved to `device`
            once, here.
        batch_size: Largest batch per rank, in `unit`.
        unit: Count rows, or their tokens without padding; batches of the one are nearly equal in number of
            rows, those of the other in time.
        seed: Decides who shares a batch, and the order of the batches.
        rank: Index of this process.
        world_size: Number of processes.
        device: Where the rows live and the batches are made.
        max_batches: End each epoch after this many batches.

    Raises:
        ValueError: The parts' lengths differ, or there are too few rows for one on each rank.
    """

    def __init__(
        self,
        parts: Sequence[Tensor],
        *,
        batch_size: int,
        unit: Literal["rows", "tokens"] = "rows",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        max_batches: int | None = None,
    ) -> None:
        counts = [len(part) for part in parts]
        if len(set(counts)) != 1:
            raise ValueError(f"parts must be equally long, but their lengths are {counts}")
        if counts[0] < world_size:
            raise ValueError(f"{counts[0]} rows are too few for one on each of {world_size} processes")
        self._device = torch.device(device)
        self.parts = tuple(part.to(self._device) for part in parts)
        lengths = torch.stack([row_lengths(part).cpu() for part in parts], 1)  # (N, P)
        self._keys = _lexicographic(lengths)
        lengths = lengths[self._keys.argsort(descending=True)]
        cost = lengths.sum(1) if unit == "tokens" else torch.ones(len(lengths), dtype=torch.long)
        self._bounds = _cuts(cost, batch_size, world_size)
        self._widths = [
            lengths[start:stop].amax(0).tolist()
            for start, stop in zip(self._bounds, self._bounds[1:], strict=False)
        ]
        # A sample is a batch here, and every rank has one for each.
        super().__init__(
            len(self._widths) * world_size,
            batch_size=1,
            shuffle=True,
            seed=seed,
            rank=rank,
            world_size=world_size,
            max_batches=max_batches,
        )

    def _serve(self, epoch: int, first: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch))
        rows = torch.randperm(len(self._keys), generator=generator)
        rows = rows[self._keys[rows].argsort(descending=True, stable=True)].to(self._device)
        batches = torch.randperm(len(self._widths), generator=generator).tolist()
        for index in range(first, len(self)):
            batch = batches[index]
            start, stop = self._bounds[batch], self._bounds[batch + 1]
            each = (stop - start) // self.world_size
            own = rows[start + self.rank * each : start + (self.rank + 1) * each]
            yield tuple(
                part[:, :width].index_select(0, own)
                for part, width in zip(self.parts, self._widths[batch], strict=True)
            )


def _lexicographic(lengths: Tensor) -> Tensor:
    """Numbers in the order of the rows of (N, P), the first column counting most: int64 (N,)."""
    keys = torch.zeros(len(lengths), dtype=torch.long)
    for column in lengths.unbind(1):
        keys = keys * (int(column.max()) + 1) + column
    return keys


def _cuts(cost: Tensor, batch_size: int, world_size: int) -> list[int]:
    """Where batches of all ranks together start, and the last one ends.

    Args:
        cost: Of each row, in order, positive (N,).
        batch_size: Largest cost of a rank's batch on average over its rows; a single row may cost more.
        world_size: Each batch has a multiple of so many rows.

    Returns:
        Ascending, from 0 to the largest multiple of `world_size` up to N.
    """
    units = len(cost) // world_size  # a row for each rank
    paid = cost[: units * world_size].view(units, world_size).sum(1).cumsum(0)
    total = int(paid[-1])
    batches = math.ceil(total / (batch_size * world_size))
    limits = torch.arange(1, batches) * total // batches
    inner = torch.searchsorted(paid, limits, right=True)
    return [0, *(inner[(inner > 0) & (inner < units)].unique() * world_size).tolist(), units * world_size]

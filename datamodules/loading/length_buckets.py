"""Training batches of sequences of similar length, so that a batch has little padding."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from datamodules.loading.epoch_loader import EpochLoader, mix_seed
from datamodules.loading.token_rows import row_lengths

Batch = tuple[Tensor, ...]


class LengthBuckets(EpochLoader):
    """Serve rows of tokens, each exactly once per epoch, in batches as wide as their longest row.

    In each epoch the rows are shuffled, then sorted by the lengths of their parts, the longest first. So rows
    of the same length are in random order. The sorted rows are cut into batches, which are served in random
    order. The cuts are the same in all epochs, because the sorted lengths are. A batch is one gather.

    All ranks get the same number of batches of the same shape. Batch b of all ranks together is the batch
    that one process would get with a batch size `world_size` times as large, except for fewer than
    `world_size` rows at each end. An epoch leaves out fewer than `world_size` of the shortest rows.

    `rank`, `world_size` and `max_batches` are those of `EpochLoader`.

    Args:
        parts: Tensors int64 (N, T) with the same N, padded at the end; the constructor moves them to
            `device`.
        batch_size: Largest batch per rank, in `unit`.
        unit: What `batch_size` counts: rows, or tokens without padding. Batches by rows have nearly the same
            number of rows; batches by tokens take nearly the same time.
        seed: Seed of the order of rows of the same length and of the batches.
        device: Device of the rows and the batches.

    Raises:
        ValueError: The lengths of the parts differ, or there are fewer rows than ranks.
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
            raise ValueError(f"parts must have the same length, but their lengths are {counts}")
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
        # A sample of EpochLoader is a whole batch here, one per rank.
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
    """Map the rows of (N, P) to numbers in lexicographic order, int64 (N,)."""
    keys = torch.zeros(len(lengths), dtype=torch.long)
    for column in lengths.unbind(1):
        keys = keys * (int(column.max()) + 1) + column
    return keys


def _cuts(cost: Tensor, batch_size: int, world_size: int) -> list[int]:
    """Return ascending bounds that cut rows of costs (N,) into batches that cost each rank ≤ `batch_size`."""
    units = len(cost) // world_size  # a unit is one row per rank
    paid = cost[: units * world_size].view(units, world_size).sum(1).cumsum(0)
    total = int(paid[-1])
    batches = math.ceil(total / (batch_size * world_size))
    limits = torch.arange(1, batches) * total // batches
    inner = torch.searchsorted(paid, limits, right=True)
    return [0, *(inner[(inner > 0) & (inner < units)].unique() * world_size).tolist(), units * world_size]

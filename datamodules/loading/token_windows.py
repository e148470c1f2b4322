"""Batches of windows over one long row of tokens: from anywhere, one after the other, or in streams.

A batch is `(x, y)`, both int64 (B, T): `y` is what stands one position behind `x`. Where there is
nothing left to predict, `y` holds `IGNORED`, which cross-entropy leaves out.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.loading.epoch_loader import EpochLoader, mix_seed

IGNORED = -100
Batch = tuple[Tensor, Tensor]


def as_tensor(tokens: "np.ndarray[Any, Any]") -> Tensor:
    """Ids in the signed type of their width, sharing their memory: PyTorch can't index by unsigned ones."""
    return torch.from_numpy(tokens.view({2: np.int16, 4: np.int32}[tokens.dtype.itemsize]))


def gather(tokens: Tensor, starts: Tensor, width: int, last: Tensor | int | None = None) -> Batch:
    """Windows and what follows each of their tokens.

    Args:
        tokens: As `as_tensor` gives them, (N,).
        starts: Where each window's inputs start, int64 (B,).
        width: T.
        last: The last position that may be a target, one for all or one each (B,); N − 1 by default.

    Returns:
        Inputs and targets, int64 (B, T). Inputs beyond the last token repeat it.
    """
    unsigned = (1 << 8 * tokens.itemsize) - 1
    positions = starts.unsqueeze(1) + torch.arange(width + 1, device=tokens.device)  # (B, T + 1)
    window = tokens[positions.clamp(max=len(tokens) - 1)].long() & unsigned
    x, y = window[:, :-1].contiguous(), window[:, 1:].contiguous()
    if last is None:
        return x, y
    ends = torch.as_tensor(last, device=tokens.device).expand(len(starts)).unsqueeze(1)  # (B, 1)
    return x, y.masked_fill(positions[:, 1:] > ends, IGNORED)


class RandomWindows(EpochLoader):
    """Training windows that start anywhere, each place as likely as any other.

    Where they start is a pure function of (seed, epoch, batch), drawn for all ranks together, so batch b of
    all ranks is what one process would see with a batch `world_size` times as large.

    Args:
        tokens: As `as_tensor` gives them, (N,), on the device that the batches are wanted on.
        context_length: T.
        batch_size: Windows per batch and rank.
        steps: Batches in an epoch.
        seed: Decides where the windows start.
        rank: Index of this process.
        world_size: Number of processes.
        max_batches: End each epoch after this many batches.

    Raises:
        ValueError: There are fewer tokens than a window and the one behind it.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        context_length: int,
        batch_size: int,
        steps: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        max_batches: int | None = None,
    ) -> None:
        if len(tokens) < context_length + 1:
            raise _too_few(len(tokens), context_length + 1, f"a window of {context_length} and its targets")
        super().__init__(
            steps * batch_size * world_size,
            batch_size=batch_size,
            shuffle=True,
            seed=seed,
            rank=rank,
            world_size=world_size,
            max_batches=max_batches,
        )
        self.tokens = tokens
        self.context_length = context_length

    def _serve(self, epoch: int, first: int) -> Iterator[Batch]:
        shape = self.world_size, self.batch_size
        for index in range(first, len(self)):
            generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch, index))
            starts = torch.randint(len(self.tokens) - self.context_length, shape, generator=generator)
            yield gather(self.tokens, starts[self.rank].to(self.tokens.device), self.context_length)


class OrderedWindows(EpochLoader):
    """Evaluation windows: side by side, so that each token but the very first is a target exactly once.

    The last window may be shorter than the others; its batch marks what is missing by `IGNORED`. Ranks
    share the windows as `EpochLoader` says.

    Args:
        tokens: As `as_tensor` gives them, (N,), on the device that the batches are wanted on.
        context_length: T.
        batch_size: Windows per batch and rank, at most.
        rank: Index of this process.
        world_size: Number of processes.

    Raises:
        ValueError: There is no window for each rank.
    """

    def __init__(
        self, tokens: Tensor, *, context_length: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        windows = math.ceil((len(tokens) - 1) / context_length)
        super().__init__(windows, batch_size=batch_size, shuffle=False, rank=rank, world_size=world_size)
        self.tokens = tokens
        self.context_length = context_length

    def _serve(self, epoch: int, first: int) -> Iterator[Batch]:
        starts = self.order(epoch).to(self.tokens.device) * self.context_length
        for index in range(first, len(self)):
            chosen = starts[self.batch_slice(index)]
            yield gather(self.tokens, chosen, self.context_length, last=len(self.tokens) - 1)


class StreamWindows(EpochLoader):
    """Parallel streams, read in order: row i of a batch goes on where row i of the batch before it ended.

    The tokens are parted among the streams, whose lengths differ by one at most, and each stream among
    batches whose widths, at most T, differ by one at most. So each token but the very first is a target
    exactly once an epoch. Where a stream is the shorter one, its last target is `IGNORED`. Ranks share the
    streams, so a batch of all ranks together is the same for any number of them.

    An epoch's first batch, whose `batch_idx` is 0, starts all streams anew: there a network that carries
    its state must forget it.

    Args:
        tokens: As `as_tensor` gives them, (N,), on the device that the batches are wanted on.
        context_length: T.
        streams: Their number on all ranks together.
        rank: Index of this process.
        world_size: Number of processes.
        max_batches: End each epoch after this many batches.

    Raises:
        ValueError: There are too few tokens for a window in each stream.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        context_length: int,
        streams: int,
        rank: int = 0,
        world_size: int = 1,
        max_batches: int | None = None,
    ) -> None:
        assert streams >= world_size
        targets = len(tokens) - 1
        if targets < streams * context_length:
            needed = streams * context_length + 1
            raise _too_few(len(tokens), needed, f"{streams} streams of a window of {context_length} each")
        bounds = torch.arange(streams + 1) * targets // streams
        own = slice(rank * streams // world_size, (rank + 1) * streams // world_size)
        self._starts = bounds[:-1][own].to(tokens.device)
        self._ends = bounds[1:][own].to(tokens.device)
        self._longest = math.ceil(targets / streams)
        steps = math.ceil(self._longest / context_length)
        # A sample is a batch here: every rank has one for each step.
        super().__init__(
            steps * world_size,
            batch_size=1,
            shuffle=False,
            rank=rank,
            world_size=world_size,
            max_batches=max_batches,
        )
        self.tokens = tokens
        self.context_length = context_length

    def _serve(self, epoch: int, first: int) -> Iterator[Batch]:
        steps = self._batches_in_epoch
        for index in range(first, len(self)):
            begin, end = (i * self._longest // steps for i in (index, index + 1))
            yield gather(self.tokens, self._starts + begin, end - begin, last=self._ends)


def _too_few(found: int, needed: int, what: str) -> ValueError:
    return ValueError(f"{found} tokens are too few for {what}, which takes {needed}")

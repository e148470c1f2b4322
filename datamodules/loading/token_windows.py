"""Batches of windows over one long row of tokens: random, side by side, or in parallel streams.

A batch is `(x, y)`, both int64 (B, T). `y` holds the token after each token of `x`. Where nothing is left to
predict, `y` is `IGNORED`, which cross-entropy ignores.
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
    """View ids as signed integers of the same width, without a copy; PyTorch can't index by unsigned ones."""
    return torch.from_numpy(tokens.view({2: np.int16, 4: np.int32}[tokens.dtype.itemsize]))


def gather(tokens: Tensor, starts: Tensor, width: int, last: Tensor | int | None = None) -> Batch:
    """Gather windows and their targets.

    Args:
        tokens: Ids (N,) as returned by `as_tensor`.
        starts: Start of each window's inputs, int64 (B,).
        width: T.
        last: Last position that may be a target, one for all windows or one each (B,); N − 1 by default.

    Returns:
        Inputs and targets, int64 (B, T). Inputs after the last token are copies of it.
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
    """Training windows with uniformly random starts.

    The starts are a pure function of (seed, epoch, batch), sampled for all ranks together. Batch b of all
    ranks is what one process would see with a batch `world_size` times as large.

    `rank`, `world_size` and `max_batches` are those of `EpochLoader`.

    Args:
        tokens: Ids (N,) as returned by `as_tensor`, on the device of the batches.
        context_length: T.
        batch_size: Windows per batch and rank.
        steps: Batches in an epoch.
        seed: Seed of the starts.

    Raises:
        ValueError: There are too few tokens for a window and its targets.
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
    """Evaluation windows side by side: each token except the first is a target exactly once.

    The last window may be shorter; its missing targets are `IGNORED`. Ranks share the windows as in
    `EpochLoader`.

    `rank` and `world_size` are those of `EpochLoader`.

    Args:
        tokens: Ids (N,) as returned by `as_tensor`, on the device of the batches.
        context_length: T.
        batch_size: Largest number of windows per batch and rank.

    Raises:
        ValueError: There are fewer windows than ranks.
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
    """Parallel streams read in order: row i of a batch continues where row i of the previous batch ended.

    The tokens are divided among streams whose lengths differ by at most one, and each stream among batches
    whose widths, at most T, differ by at most one. Each token except the first is a target exactly once an
    epoch. The last target of a shorter stream is `IGNORED`. Ranks share the streams, so a batch of all ranks
    together is the same for any number of ranks.

    The first batch of an epoch, with `batch_idx` 0, starts all streams from the beginning. A network that
    carries its state must reset it there.

    `rank`, `world_size` and `max_batches` are those of `EpochLoader`.

    Args:
        tokens: Ids (N,) as returned by `as_tensor`, on the device of the batches.
        context_length: T.
        streams: Number of streams on all ranks together.

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
            raise _too_few(len(tokens), needed, f"{streams} streams of windows of {context_length}")
        bounds = torch.arange(streams + 1) * targets // streams
        own = slice(rank * streams // world_size, (rank + 1) * streams // world_size)
        self._starts = bounds[:-1][own].to(tokens.device)
        self._ends = bounds[1:][own].to(tokens.device)
        self._longest = math.ceil(targets / streams)
        steps = math.ceil(self._longest / context_length)
        # Here a sample is a batch: every rank has one for each step.
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
    return ValueError(f"{found} tokens are too few for {what}: at least {needed} are needed")

"""Sequences of tokens as rows of one tensor, and batches with little padding.

The first three tokens of each vocabulary are special. An input sequence ends with `EOS`; a target sequence
starts with `BOS` and ends with `EOS`. `PAD` fills up the rest of a row.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

SPECIAL = ("<pad>", "<bos>", "<eos>")
PAD, BOS, EOS = range(3)


def vocabulary(symbols: Iterable[str]) -> tuple[str, ...]:
    """Return the symbols in the order of their ids: the special ones, then the others, sorted."""
    return (*SPECIAL, *sorted(set(symbols)))


def encoder(symbols: Sequence[str]) -> dict[str, int]:
    """Return the id of each symbol of a `vocabulary`, without the special ones."""
    return {symbol: index for index, symbol in enumerate(symbols) if index >= len(SPECIAL)}


def padded_rows(sequences: Sequence[Sequence[int]], width: int | None = None) -> Tensor:
    """Return sequences as rows, filled up with `PAD`.

    Args:
        sequences: N sequences of any lengths.
        width: Width of the result; by default that of the longest sequence.

    Returns:
        int64 (N, width).

    Raises:
        ValueError: A sequence is longer than `width`.
    """
    lengths = np.fromiter((len(s) for s in sequences), dtype=np.int64, count=len(sequences))
    longest = int(lengths.max(initial=0))
    width = longest if width is None else width
    if longest > width:
        raise ValueError(f"a sequence of {longest} tokens doesn't fit into rows of {width}")
    rows = np.full((len(sequences), width), PAD, dtype=np.int64)
    filled = np.arange(width) < lengths[:, None]
    rows[filled] = np.fromiter(chain.from_iterable(sequences), dtype=np.int64, count=int(lengths.sum()))
    return torch.from_numpy(rows)


def row_lengths(rows: Tensor) -> Tensor:
    """Count the tokens before the padding: (..., T) → int64 (...)."""
    return (rows != PAD).sum(-1)


def trimmed(batch: tuple[Tensor, ...], _: object = None) -> tuple[Tensor, ...]:
    """Cut each tensor (..., T) after its longest row; a transform of `ResidentLoader`."""
    return tuple(rows[..., : int(row_lengths(rows).max())].contiguous() for rows in batch)

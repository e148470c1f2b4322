"""Sequences of tokens as rows of one tensor, and batches of them without needless padding.

The first three tokens of each vocabulary are special. A sequence to be read ends with `EOS`; one to be
written starts with `BOS` and ends with `EOS`; `PAD` fills a row up behind that.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

SPECIAL = ("<pad>", "<bos>", "<eos>")
PAD, BOS, EOS = range(3)


def vocabulary(symbols: Iterable[str]) -> tuple[str, ...]:
    """What tokens stand for, in the order of their ids: the special ones, then the symbols, sorted."""
    return (*SPECIAL, *sorted(set(symbols)))


def encoder(symbols: Sequence[str]) -> dict[str, int]:
    """The id of each symbol of a `vocabulary`, without the special ones."""
    return {symbol: index for index, symbol in enumerate(symbols) if index >= len(SPECIAL)}


def padded_rows(sequences: Sequence[Sequence[int]], width: int | None = None) -> Tensor:
    """Sequences side by side, filled up with `PAD`.

    Args:
        sequences: N of them, of any lengths.
        width: Of the result; by default that of the longest.

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
    """Tokens in front of the padding: (..., T) → int64 (...)."""
    return (rows != PAD).sum(-1)


def trimmed(batch: tuple[Tensor, ...], _: object = None) -> tuple[Tensor, ...]:
    """Each tensor (..., T) cut behind its longest row; a transform of `ResidentLoader`."""
    return tuple(rows[..., : int(row_lengths(rows).max())].contiguous() for rows in batch)

"""The losses of a model on a long text, computed in windows of its context.

Shape letters: N tokens in the text, B windows, T tokens in a window, V tokens in the vocabulary.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.functional.precision import widen
from lit_modules.generation.decoding import device_of

_PIECE = 1024
"""Number of tokens per call for a network without a context length."""
_MOST_WINDOWS, _MOST_LOGITS = 8, 1 << 26
"""Limits of one batch, so that the logits fit in memory."""


def token_losses(network: Any, tokens: Tensor, *, stride: int) -> Iterator[Tensor]:
    """Yield the cross-entropy of each token of a text except the first, in order, exactly once.

    A window of a whole context moves by `stride` tokens. Only its last `stride` predictions are new, so only
    they count, except in the first window:

        context 6, stride 2       a b c d e f g . . .     predicts b c d e f g
                                  . . c d e f g h i .     predicts             h i
                                  . . . d e f g h i j     predicts                 j

    After the start of the text, each prediction sees at least context − stride tokens. A small stride gives
    the lowest loss but takes context / stride times as long as one pass. A stride of the whole context is
    fast, but the first tokens of each window are hard to predict.

    A recurrent network, which has no `context_length`, reads the text once from start to end.

    Args:
        network: A `TransformerLM`, a `RecurrentLM` or a module with the same call, in evaluation mode.
        tokens: The text, int64 (N,).
        stride: Number of tokens between two windows, from 1 to the context.

    Yields:
        Losses in nats (n,), at least fp32; N − 1 in total.

    Raises:
        ValueError: The stride is outside its range.
    """
    context = getattr(network, "context_length", None)
    if context is None:
        yield from _read_once(network, tokens)
        return
    if not 1 <= stride <= context:
        raise ValueError(f"stride: {stride}, allowed is 1 … {context}, the context length")
    targets = len(tokens) - 1
    # The end of each window's targets: the first window has `context` targets, the next ends `stride` later.
    ends = [*range(min(context, targets), targets, stride), targets] if targets > 0 else []
    new = [end - before for before, end in pairwise([0, *ends])]
    width = min(context, targets)
    rows = max(1, min(_MOST_WINDOWS, _MOST_LOGITS // max(1, width * network.vocab_size)))
    for start in range(0, len(ends), rows):
        stops, counts = torch.tensor(ends[start : start + rows]), new[start : start + rows]
        places = stops.unsqueeze(1) + torch.arange(-width, 1)  # (B, T + 1)
        losses = _last_losses(network, tokens[places], max(counts))  # (B, most)
        for row, count in zip(losses, counts, strict=True):
            yield row[len(row) - count :]


@torch.inference_mode()
def _last_losses(network: Any, windows: Tensor, count: int) -> Tensor:
    """Compute the losses of the last tokens of each row: (B, T + 1) → (B, count)."""
    windows = windows.to(device_of(network))
    logits = widen(network(windows[:, :-1])[:, -count:])  # (B, count, V)
    return F.cross_entropy(logits.transpose(1, 2), windows[:, -count:], reduction="none")


@torch.inference_mode()
def _read_once(network: Any, tokens: Tensor) -> Iterator[Tensor]:
    cache = network.make_cache(len(tokens))
    for start in range(0, len(tokens) - 1, _PIECE):
        piece = tokens[start : start + _PIECE + 1].to(device_of(network))
        logits = widen(network(piece[:-1].unsqueeze(0), cache=cache)).squeeze(0)  # (T, V)
        yield F.cross_entropy(logits, piece[1:], reduction="none")

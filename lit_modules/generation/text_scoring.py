"""How well a model predicts a long text, of which it sees a context at a time.

Shape letters: N tokens of the text, B windows, T tokens of a window, V tokens of the vocabulary.
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
"""Tokens that a network without a context reads at once."""
_MOST_WINDOWS, _MOST_LOGITS = 8, 1 << 26
"""In one batch: enough windows to keep a machine busy, and few enough logits for any memory."""


def token_losses(network: Any, tokens: Tensor, *, stride: int) -> Iterator[Tensor]:
    """Cross-entropy of each token of a text but the first, in order, each exactly once.

    A window of a whole context moves on by `stride` tokens, and of each but the first only the last
    `stride` predictions count: all others were made before.

        context 6, stride 2       a b c d e f g . . .     predicts b c d e f g
                                  . . c d e f g h i .     predicts             h i
                                  . . . d e f g h i j     predicts                 j

    So each prediction is made with at least context − stride tokens in sight, the beginning of the text
    aside. A small stride gives the model its due and takes context / stride times as long as reading once; a
    stride of the context is quick and hard on the first tokens of each window.

    A network without a `context_length` (a recurrent one) reads the text once, from start to end.

    Args:
        network: A `TransformerLM`, a `RecurrentLM` or what is called like them, in evaluation
            mode.
        tokens: int64 (N,).
        stride: From 1 to the context.

    Yields:
        (n,) losses in nats, of at least fp32; N − 1 in all.

    Raises:
        ValueError: A stride outside its range.
    """
    context = getattr(network, "context_length", None)
    if context is None:
        yield from _read_once(network, tokens)
        return
    if not 1 <= stride <= context:
        raise ValueError(f"stride: {stride}, allowed is 1 … {context}, the context")
    targets = len(tokens) - 1
    # Where each window's targets end: the first has `context` of them, each other ends `stride` further.
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
    """(B, T + 1) tokens → (B, count) losses of the last of each row."""
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

"""Greedy search and beam search with an encoder–decoder network.

Shape letters: B sources, K hypotheses per source, R = B · K rows, S source tokens, T written target tokens,
V target vocabulary, W width.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lit_modules.functional.precision import widen
from lit_modules.generation.special_tokens import BOS, EOS, PAD
from lit_modules.layers.kv_cache import DecoderLayerCache


class Network(Protocol):
    """The methods that a search calls; `EncoderDecoder` has them."""

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encode sources (B, S): the context (B, S, W) and its mask (B, S), `None` without padding."""

    def decode(
        self,
        target: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        cache: list[DecoderLayerCache] | None = None,
    ) -> Tensor:
        """Decode targets (B, T) to logits (B, T, V)."""

    def make_cache(self, capacity: int) -> list[DecoderLayerCache]:
        """Make an empty cache."""


class Hypotheses(NamedTuple):
    """The result of a beam search for each source, best first."""

    tokens: Tensor  # int64 (B, N, T): no BOS; EOS unless truncated; PAD (backward: EOS and BOS swap)
    scores: Tensor  # (B, N): log-probability / length^length_penalty; −inf: no hypothesis


@torch.no_grad()
def greedy_search(network: Network, source: Tensor, *, max_length: int, use_cache: bool = True) -> Tensor:
    """Take the most probable token at each step, until each row has ended.

    Args:
        network: The network, in evaluation mode.
        source: (B, S), padded at the end.
        max_length: Largest number of tokens to write, EOS included.
        use_cache: Keep keys and values. The result is the same without a cache, up to rounding.

    Returns:
        int64 (B, T) with T ≤ max_length: no BOS; each row ends with EOS unless it was truncated, then PAD.

    Raises:
        ValueError: `max_length` is below 1.
    """
    writer = _Writer(network, source, max_length, use_cache)
    ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
    for _ in range(max_length):
        token = writer.log_probabilities().argmax(-1).masked_fill(ended, PAD)  # (B,)
        writer.append(token)
        ended |= token == EOS
        if ended.all():
            break
    return writer.written()


@torch.no_grad()
def beam_search(
    network: Network,
    source: Tensor,
    *,
    beam_size: int,
    max_length: int,
    length_penalty: float = 1.0,
    n_best: int = 1,
    backward: bool = False,
    use_cache: bool = True,
) -> Hypotheses:
    """Keep the `beam_size` best hypotheses of each source at each step.

    The score of a hypothesis is Σ log p(token) / length^length_penalty. A finished hypothesis keeps its score
    and stays in the beam until `beam_size` others are better. The search ends when all have finished. A beam
    of 1 is greedy search; a beam that can hold every prefix is exhaustive search.

    Args:
        network: The network, in evaluation mode.
        source: (B, S), padded at the end.
        beam_size: Number K of hypotheses.
        max_length: Largest number of tokens to write, EOS included; longer hypotheses are truncated.
        length_penalty: 0 compares log-probabilities, which favours short targets; 1 compares their means.
        n_best: Number N of hypotheses to return; fewer only if no others exist.
        backward: Write from the last token to the first, so that EOS starts and BOS ends a hypothesis.
        use_cache: Keep keys and values. The result is the same without a cache, up to rounding.

    Raises:
        ValueError: `max_length` is below 1, or `n_best` is not in 1 … `beam_size`.

    Source: Graves 2012, "Sequence transduction with recurrent neural networks"; Wu et al. 2016, "Google's
    neural machine translation system", section 7 (length normalisation).
    """
    check_n_best(n_best, beam_size)
    start, end = (EOS, BOS) if backward else (BOS, EOS)
    writer = _Writer(network, source, max_length, use_cache, start=start)
    batch, device = len(source), source.device
    sums = torch.zeros(batch, 1, device=device)  # (B, K) log-probabilities; K grows to beam_size
    scores = sums
    lengths = torch.zeros(batch, 1, dtype=torch.long, device=device)
    ended = torch.zeros(batch, 1, dtype=torch.bool, device=device)
    for _ in range(max_length):
        log_probs = writer.log_probabilities().unflatten(0, (batch, -1))  # (B, K, V)
        totals = sums.unsqueeze(-1) + _after_end(log_probs, ended)
        lengths = lengths + ~ended
        normalised = totals / lengths.unsqueeze(-1).to(totals.dtype) ** length_penalty
        width, vocab = log_probs.shape[1:]
        scores, best = _best(normalised.flatten(1), min(beam_size, width * vocab))  # (B, K')
        parent, token = best // vocab, best % vocab

        sums = totals.flatten(1).gather(1, best)
        lengths = lengths.gather(1, parent)
        ended = ended.gather(1, parent) | (token == end) | (sums == -torch.inf)
        first_rows = torch.arange(batch, device=device).unsqueeze(-1) * width
        writer.choose((first_rows + parent).flatten(), same_context=best.shape[1] == width)
        writer.append(token.flatten())
        if ended.all():
            break
    tokens = writer.written().unflatten(0, (batch, -1))  # (B, K, T)
    tokens = tokens.masked_fill(scores.unsqueeze(-1) == -torch.inf, PAD)
    return Hypotheses(tokens[:, :n_best], scores[:, :n_best])


def check_n_best(n_best: int, beam_size: int) -> None:
    """Raise a `ValueError` unless 1 ≤ n_best ≤ beam_size."""
    if not 1 <= n_best <= beam_size:
        raise ValueError(f"n_best is {n_best}, expected 1 … {beam_size}, the beam size")


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the highest scores of each row and their indices: (B, N) → twice (B, count).

    Half precision often gives equal scores. Among them `topk` takes any, but a beam of 1 must take the first,
    as greedy search does.
    """
    return scores.max(1, keepdim=True) if count == 1 else scores.topk(count)


def _after_end(log_probs: Tensor, ended: Tensor) -> Tensor:
    """Let a finished hypothesis continue only with padding, at log-probability 0: (B, K, V)."""
    padding = torch.full_like(log_probs[0, 0], -torch.inf)
    padding[PAD] = 0.0
    return torch.where(ended.unsqueeze(-1), padding, log_probs)


class _Writer:
    """The targets written so far, and the log-probabilities of their next tokens."""

    def __init__(
        self, network: Network, source: Tensor, max_length: int, use_cache: bool, *, start: int = BOS
    ) -> None:
        if max_length < 1:
            raise ValueError(f"max_length is {max_length}, expected at least 1")
        self._network = network
        self._context, self._mask = network.encode(source)
        self._cache = network.make_cache(max_length) if use_cache else None
        self._start = start
        self._tokens = source.new_full((len(source), 1), start)  # (R, T + 1)

    def log_probabilities(self) -> Tensor:
        """Return the log-probabilities of the next tokens, (R, V); PAD and the start token get −∞."""
        if self._cache is None:
            logits = self._network.decode(self._tokens, self._context, self._mask)
        elif self._tokens.shape[1] == 1:
            logits = self._network.decode(self._tokens, self._context, self._mask, cache=self._cache)
        else:
            logits = self._network.decode(self._tokens[:, -1:], cache=self._cache)
        log_probs = widen(logits[:, -1]).log_softmax(-1)
        log_probs[:, [PAD, self._start]] = -torch.inf
        return log_probs

    def choose(self, rows: Tensor, *, same_context: bool) -> None:
        """Replace row i by a copy of row `rows[i]`; with `same_context` both have the same source."""
        self._tokens = self._tokens[rows]
        if self._cache is not None:
            for layer in self._cache:
                layer.reorder(rows, same_context=same_context)
        elif not same_context:
            self._context = self._context[rows]
            self._mask = None if self._mask is None else self._mask[rows]

    def append(self, token: Tensor) -> None:
        """Append one token (R,) to each row."""
        self._tokens = torch.cat([self._tokens, token.unsqueeze(-1)], dim=1)

    def written(self) -> Tensor:
        """Return the tokens without the start token, int64 (R, T)."""
        return self._tokens[:, 1:]

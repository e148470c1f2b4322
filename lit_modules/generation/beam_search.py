"""Writing a target with an encoder–decoder network: greedily, or by a beam of hypotheses.

Shape letters: B sources, K hypotheses of each, R = B · K rows, S source tokens, T target tokens written,
V target vocabulary.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lit_modules.functional.precision import widen
from lit_modules.generation.special_tokens import BOS, EOS, PAD
from lit_modules.layers.kv_cache import DecoderLayerCache


class Network(Protocol):
    """What is asked of a network; `EncoderDecoder` has it."""

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, S) → the context (B, S, W) and which of it is real (B, S), None for all."""

    def decode(
        self,
        target: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        cache: list[DecoderLayerCache] | None = None,
    ) -> Tensor:
        """(B, T) → logits (B, T, V)."""

    def make_cache(self, capacity: int) -> list[DecoderLayerCache]:
        """An empty cache."""


class Hypotheses(NamedTuple):
    """What a beam search found for each source, best first."""

    tokens: Tensor  # int64 (B, N, T): without BOS, ends with EOS unless cut, then PAD (backward: EOS and BOS)
    scores: Tensor  # (B, N): log-probability / length^length_penalty, EOS counted; −inf: there was no other


@torch.no_grad()
def greedy_search(network: Network, source: Tensor, *, max_length: int, use_cache: bool = True) -> Tensor:
    """Takes the most probable token at each step, until each row has ended.

    Args:
        network: In evaluation mode.
        source: (B, S), padded behind.
        max_length: Tokens to write at most, EOS included.
        use_cache: Keep keys and values. The result is the same without, up to rounding.

    Returns:
        int64 (B, T) with T ≤ max_length: without BOS, each row ends with EOS unless it was cut, then PAD.

    Raises:
        ValueError: a `max_length` below 1.
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
    """Keeps the `beam_size` best hypotheses of each source at each step, ended ones among them.

    A hypothesis scores Σ log p(token) / length^length_penalty. One that has ended keeps its score and its
    place until `beam_size` others are better; the search is over when all have ended. With a beam of 1 this
    is the greedy search, with one that holds every beginning it is exhaustive.

    Args:
        network: In evaluation mode.
        source: (B, S), padded behind.
        beam_size: K.
        max_length: Tokens to write at most, EOS included; a hypothesis that hasn't ended then is cut there.
        length_penalty: 0 compares log-probabilities, which get lower with each token; 1 their means.
        n_best: N, how many to return; less than asked only where there are no more.
        backward: Write from the last token to the first: EOS is what stands before all, BOS what ends them.
        use_cache: Keep keys and values. The result is the same without, up to rounding.

    Raises:
        ValueError: a `max_length` below 1, or not 1 ≤ n_best ≤ beam_size.

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
    """Raises a `ValueError` unless a beam of that size can return so many."""
    if not 1 <= n_best <= beam_size:
        raise ValueError(f"n_best is {n_best}, expected 1 … {beam_size}, the beam's size")


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest of each row and their places: (B, N) → twice (B, count); a single one as `argmax` has it.

    Of equal scores, which half precision often makes, `topk` takes any, and greedy search the first.
    """
    return scores.max(1, keepdim=True) if count == 1 else scores.topk(count)


def _after_end(log_probs: Tensor, ended: Tensor) -> Tensor:
    """(B, K, V): a hypothesis that has ended goes on in one way, by padding, which costs nothing."""
    padding = torch.full_like(log_probs[0, 0], -torch.inf)
    padding[PAD] = 0.0
    return torch.where(ended.unsqueeze(-1), padding, log_probs)


class _Writer:
    """The targets written so far, and the network's opinion of what comes next."""

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
        """Of each token as each row's next, (R, V); PAD and what stands before all are never written."""
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
        """Makes row i a copy of the former row `rows[i]`; with `same_context` both are of one source."""
        self._tokens = self._tokens[rows]
        if self._cache is not None:
            for layer in self._cache:
                layer.reorder(rows, same_context=same_context)
        elif not same_context:
            self._context = self._context[rows]
            self._mask = None if self._mask is None else self._mask[rows]

    def append(self, token: Tensor) -> None:
        """Writes one token (R,) in each row."""
        self._tokens = torch.cat([self._tokens, token.unsqueeze(-1)], dim=1)

    def written(self) -> Tensor:
        """int64 (R, T), without what stands before all."""
        return self._tokens[:, 1:]

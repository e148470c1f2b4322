"""Beam search from both ends of a target, with a network that was trained in both directions.

Shape letters: B sources, K hypotheses per direction, C = 2K candidates, N results, S source tokens, T target
tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.functional.precision import widen
from lit_modules.generation.beam_search import Hypotheses, Network, beam_search, check_n_best
from lit_modules.generation.special_tokens import BOS, EOS, PAD


def reverse_targets(target: Tensor) -> Tensor:
    """Reverse rows (..., T) but keep their padding at the end: `BOS a b EOS PAD` → `EOS b a BOS PAD`."""
    places = torch.arange(target.shape[-1], device=target.device)
    last = (target != PAD).sum(-1, keepdim=True) - 1
    return target.gather(-1, torch.where(places <= last, last - places, places))


@torch.no_grad()
def two_way_search(
    network: Network,
    source: Tensor,
    *,
    beam_size: int,
    max_length: int,
    length_penalty: float = 1.0,
    n_best: int = 1,
) -> Hypotheses:
    """Run a beam search from each end and rank all candidates by both directions.

    The score of a candidate is ½ (Σ log p(token | tokens before) + Σ log p(token | tokens after)) / length^a
    with the `length_penalty` a; the end counts as a token. The two directions make different mistakes, so a
    candidate that is probable in both is more often correct than the best candidate of one. A truncated
    candidate competes only if no candidate is complete; it is ranked as if it ended there.

    The arguments are those of `beam_search`; there are `beam_size` hypotheses per direction. The network was
    trained on targets and on their `reverse_targets`. Its learned positions must cover `max_length + 1`
    tokens.

    Raises:
        ValueError: See `beam_search`.

    Source: Liu, Finch, Utiyama and Sumita 2016, "Agreement on target-bidirectional LSTMs for
    sequence-to-sequence learning" (k-best lists of both directions, rescored by both).
    """
    check_n_best(n_best, beam_size)
    ways = {
        backward: beam_search(
            network,
            source,
            beam_size=beam_size,
            max_length=max_length,
            length_penalty=length_penalty,
            n_best=beam_size,
            backward=backward,
        )
        for backward in (False, True)
    }
    forward = _framed(ways[False].tokens, BOS, EOS)
    backward = reverse_targets(_framed(ways[True].tokens, EOS, BOS))
    longest = max(forward.shape[-1], backward.shape[-1])
    equally_wide = [F.pad(rows, (0, longest - rows.shape[-1]), value=PAD) for rows in (forward, backward)]
    candidates = torch.cat(equally_wide, dim=1)  # (B, C, T + 2)
    found = torch.cat([way.scores for way in ways.values()], dim=1) > -torch.inf  # (B, C)
    ended = [(ways[backward].tokens == end).any(-1) for backward, end in ((False, EOS), (True, BOS))]
    complete = found & torch.cat(ended, dim=1)
    found = torch.where(complete.any(1, keepdim=True), complete, found)

    context, mask = network.encode(source)
    sums = [
        _log_probability(network, target, context, mask)
        + _log_probability(network, reverse_targets(target), context, mask)
        for target in candidates.unbind(1)
    ]
    candidates = candidates.masked_fill((candidates == EOS) & ~complete.unsqueeze(-1), PAD)[..., 1:]
    lengths = (candidates != PAD).sum(-1).clamp(min=1)
    scores = torch.stack(sums, dim=1) / 2 / lengths.to(sums[0].dtype) ** length_penalty
    scores = scores.masked_fill(~found | _found_before(candidates, found), -torch.inf)
    scores, best = scores.topk(min(n_best, scores.shape[1]))  # (B, N)
    tokens = candidates.gather(1, best.unsqueeze(-1).expand(-1, -1, candidates.shape[-1]))
    return Hypotheses(tokens.masked_fill(scores.unsqueeze(-1) == -torch.inf, PAD), scores)


def _framed(tokens: Tensor, start: int, end: int) -> Tensor:
    """Add the start and the end to written tokens, also to truncated ones: (..., T) → (..., T + 2)."""
    content = tokens.masked_fill(tokens == end, PAD)
    rows = F.pad(content, (1, 1), value=PAD)
    rows[..., 0] = start
    return rows.scatter(-1, (content != PAD).sum(-1, keepdim=True) + 1, end)


def _log_probability(network: Network, target: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
    """Sum the log-probabilities of all tokens but the first, given the tokens before: (B, T) → (B,)."""
    log_probs = widen(network.decode(target[:, :-1], context, mask)).log_softmax(-1)
    picked = log_probs.gather(-1, target[:, 1:].unsqueeze(-1)).squeeze(-1)
    return picked.masked_fill(target[:, 1:] == PAD, 0.0).sum(-1)


def _found_before(candidates: Tensor, found: Tensor) -> Tensor:
    """Tell which candidates (B, C, T) equal an earlier candidate that was found: (B, C)."""
    equal = (candidates.unsqueeze(2) == candidates.unsqueeze(1)).all(-1)  # (B, C, C)
    return (equal & found.unsqueeze(1)).tril(-1).any(-1)

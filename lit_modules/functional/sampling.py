"""Sample the next token of a language model from its logits.

A token with a logit of −inf is never sampled. The filters of logits may be applied in any order; the usual
one is repetition penalty, temperature, top-k, top-p, min-p. Every filter keeps at least one token.

Shape letters: B rows, V tokens of the vocabulary.
"""

import math

import torch
from torch import Tensor

from lit_modules.functional.precision import widen


def temperature(logits: Tensor, t: float) -> Tensor:
    """Divide logits by t: below 1 likely tokens become likelier, above 1 the probabilities become more equal.

    Source: Ackley, Hinton and Sejnowski, "A Learning Algorithm for Boltzmann Machines" (1985), eq. 5.

    Args:
        logits: (B, V).
        t: Above 0; `greedy` is the limit for 0.

    Returns:
        (B, V).

    Raises:
        ValueError: `t` is not above 0.
    """
    if not t > 0:
        raise ValueError(f"temperature must be above 0; got {t} (use greedy for the limit 0)")
    return widen(logits) / t


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k most probable tokens, and every token as probable as the k-th.

    Source: Fan, Lewis and Dauphin, "Hierarchical Neural Story Generation" (2018), section 5.4.

    Args:
        logits: (B, V).
        k: At least 1; V or more keeps all tokens.

    Returns:
        (B, V), −inf for removed tokens.

    Raises:
        ValueError: `k` is below 1.
    """
    if k < 1:
        raise ValueError(f"top_k must keep at least 1 token; got {k}")
    if k >= logits.shape[-1]:
        return logits
    kth = logits.topk(k, dim=-1).values[..., -1:]  # (B, 1)
    return logits.masked_fill(logits < kth, -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most probable tokens with a total probability of at least p (the nucleus).

    Source: Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), section 3.1.

    Args:
        logits: (B, V).
        p: In (0, 1]; 1 keeps all tokens.

    Returns:
        (B, V), −inf for removed tokens.

    Raises:
        ValueError: `p` is out of range.
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p must lie in (0, 1]; got {p}")
    if p == 1:
        return logits
    # A stable sort: the choice between equal logits must not depend on the device.
    ordered, order = widen(logits).sort(dim=-1, descending=True, stable=True)  # (B, V)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # sum of more probable tokens
    before[..., 0] = 0.0
    outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(outside, -math.inf)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Remove tokens less probable than p times the most probable one.

    Source: Nguyen et al., "Turning Up the Heat: Min-p Sampling" (2025), section 3.

    Args:
        logits: (B, V).
        p: In [0, 1]; 0 keeps all tokens.

    Returns:
        (B, V), −inf for removed tokens.

    Raises:
        ValueError: `p` is out of range.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"min_p must lie in [0, 1]; got {p}")
    if p == 0:
        return logits
    wide = widen(logits)
    bound = wide.amax(-1, keepdim=True) + math.log(p)  # a ratio of probabilities is a difference of logits
    return logits.masked_fill(wide < bound, -math.inf)


def repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that a row already contains less probable.

    Positive logits are divided by the penalty, negative ones are multiplied by it.

    Source: Keskar et al., "CTRL" (2019), section 4.1. They also divide negative logits, which rewards
        repetition.

    Args:
        logits: (B, V), directly from the model, because the result depends on the zero point.
        seen: Boolean (B, V), the tokens of the row's text so far, prompt included.
        penalty: Above 0; 1 has no effect, below 1 rewards repetition.

    Returns:
        (B, V).

    Raises:
        ValueError: `penalty` is not above 0, or the shapes differ.
    """
    if not penalty > 0:
        raise ValueError(f"repetition_penalty must be above 0; got {penalty} (1 has no effect)")
    if seen.shape != logits.shape:
        raise ValueError(f"seen has shape {tuple(seen.shape)} and logits {tuple(logits.shape)}")
    wide = widen(logits)
    return torch.where(seen, torch.where(wide < 0, wide * penalty, wide / penalty), wide)


def greedy(logits: Tensor) -> Tensor:
    """Return the most probable token of each row.

    Args:
        logits: (B, V).

    Returns:
        int64 (B,).

    Raises:
        ValueError: A row contains NaN, or no token remains.
    """
    best, tokens = logits.max(-1)
    _check_rows(best > -math.inf)  # false for NaN too
    return tokens


def sample_token(logits: Tensor, uniform: Tensor) -> Tensor:
    """Sample a token of each row with probabilities softmax(logits), by inverting the cumulative sum.

    A row's token depends on its own logits and number only, not on its place in the batch or on the device.

    Args:
        logits: (B, V).
        uniform: (B,), random numbers in [0, 1).

    Returns:
        int64 (B,), never a token of probability 0.

    Raises:
        ValueError: A row contains NaN or +inf, or no token remains.
    """
    wide = logits.float() if logits.device.type == "mps" else logits.double()
    # Subtract the maximum so that no exponential overflows; there is no need to divide by the total.
    running = (wide - wide.amax(-1, keepdim=True)).exp().cumsum(-1)  # (B, V)
    total = running[..., -1]
    _check_rows(total > 0)
    threshold = uniform.to(running) * total
    # Keep the threshold below the total: no cumulative sum is larger.
    threshold = torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
    return (running <= threshold.unsqueeze(-1)).sum(-1)


def _check_rows(fine: Tensor) -> None:
    if not bool(fine.all()):
        row = int((~fine).nonzero()[0])
        raise ValueError(f"can't sample from row {row}: its logits contain NaN or +inf, or no token remains")

"""From a language model's logits to its next token: what is left out, how boldly, and the draw itself.

A logit of −inf is a token that is never drawn. The functions of logits may be applied in any order; together
they usually come as repetition penalty, temperature, top-k, top-p, min-p, and at least one token is left.

Shape letters: B rows, V tokens of the vocabulary.
"""

import math

import torch
from torch import Tensor

from lit_modules.functional.precision import widen


def temperature(logits: Tensor, t: float) -> Tensor:
    """logits / t: below 1 the probable becomes more so, above 1 everything becomes more alike.

    Args:
        logits: (B, V).
        t: Above 0; `greedy` is the limit at 0.

    Returns:
        (B, V).

    Raises:
        ValueError: `t` isn't above 0.

    Source: Ackley, Hinton & Sejnowski 1985, "A learning algorithm for Boltzmann machines", eq. 5.
    """
    if not t > 0:
        raise ValueError(f"a temperature must be above 0; got {t} (greedy is the limit at 0)")
    return widen(logits) / t


def top_k(logits: Tensor, k: int) -> Tensor:
    """Leave out all but the k most probable tokens; those as probable as the k-th stay with it.

    Args:
        logits: (B, V).
        k: At least 1; V or more leaves out none.

    Returns:
        (B, V), −inf at what is left out.

    Raises:
        ValueError: `k` is below 1.

    Source: Fan et al. 2018, "Hierarchical neural story generation", section 5.4.
    """
    if k < 1:
        raise ValueError(f"top_k must keep at least 1 token; got {k}")
    if k >= logits.shape[-1]:
        return logits
    kth = logits.topk(k, dim=-1).values[..., -1:]  # (B, 1)
    return logits.masked_fill(logits < kth, -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most probable tokens whose probabilities sum to at least p: the nucleus.

    Args:
        logits: (B, V).
        p: In (0, 1]; 1 leaves out none.

    Returns:
        (B, V), −inf at what is left out.

    Raises:
        ValueError: `p` lies outside.

    Source: Holtzman et al. 2020, "The curious case of neural text degeneration", section 3.1.
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p must lie in (0, 1]; got {p}")
    if p == 1:
        return logits
    # Stable, so that which of two equals falls outside doesn't depend on the device.
    ordered, order = widen(logits).sort(dim=-1, descending=True, stable=True)  # (B, V)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # what is more probable already sums to
    before[..., 0] = 0.0
    outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(outside, -math.inf)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Leave out tokens less probable than p times the most probable one.

    Args:
        logits: (B, V).
        p: In [0, 1]; 0 leaves out none.

    Returns:
        (B, V), −inf at what is left out.

    Raises:
        ValueError: `p` lies outside.

    Source: Nguyen et al. 2025, "Turning up the heat: min-p sampling", section 3.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"min_p must lie in [0, 1]; got {p}")
    if p == 0:
        return logits
    wide = widen(logits)
    bound = wide.amax(-1, keepdim=True) + math.log(p)  # a ratio of probabilities is a difference of logits
    return logits.masked_fill(wide < bound, -math.inf)


def repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make the tokens that a row already holds less probable: positive logits / penalty, negative × penalty.

    Args:
        logits: (B, V), as the model gives them: what is penalised depends on where 0 lies.
        seen: Boolean (B, V): which tokens are in the row's text so far, the prompt included.
        penalty: Above 0; 1 does nothing, below 1 rewards.

    Returns:
        (B, V).

    Raises:
        ValueError: `penalty` isn't above 0, or the shapes differ.

    Source: Keskar et al. 2019, "CTRL", section 4.1; it divides negative logits too, which would reward them.
    """
    if not penalty > 0:
        raise ValueError(f"a repetition penalty must be above 0; got {penalty} (1 does nothing)")
    if seen.shape != logits.shape:
        raise ValueError(f"seen has shape {tuple(seen.shape)} and logits {tuple(logits.shape)}")
    wide = widen(logits)
    return torch.where(seen, torch.where(wide < 0, wide * penalty, wide / penalty), wide)


def greedy(logits: Tensor) -> Tensor:
    """The most probable token of each row.

    Args:
        logits: (B, V).

    Returns:
        int64 (B,).

    Raises:
        ValueError: a row holds NaN, or no token at all.
    """
    best, tokens = logits.max(-1)
    _check_rows(best > -math.inf)  # NaN is no more than −inf either
    return tokens


def sample_token(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw a token of each row with the probabilities softmax(logits), by inverting their running sum.

    One number decides a row's draw, so it is the same wherever in a batch the row stands, and on any device.

    Args:
        logits: (B, V).
        uniform: (B,), in [0, 1).

    Returns:
        int64 (B,), never a token of probability 0.

    Raises:
        ValueError: a row holds NaN or +inf, or no token at all.
    """
    wide = logits.float() if logits.device.type == "mps" else logits.double()
    # Relative to the most probable token, so that no exponential overflows; the sum needs no division then.
    running = (wide - wide.amax(-1, keepdim=True)).exp().cumsum(-1)  # (B, V)
    total = running[..., -1]
    _check_rows(total > 0)
    threshold = uniform.to(running) * total
    # Rounding must not reach the total: no running sum lies above that.
    threshold = torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
    return (running <= threshold.unsqueeze(-1)).sum(-1)


def _check_rows(fine: Tensor) -> None:
    if not bool(fine.all()):
        row = int((~fine).nonzero()[0])
        raise ValueError(f"the logits of row {row} hold NaN or +inf, or leave no token: nothing can be drawn")

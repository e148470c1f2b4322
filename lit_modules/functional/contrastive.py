"""Contrastive losses: find the positive among candidates, by cosine similarity.

Each loss is a cross-entropy over candidates. With the cosine similarity s and the temperature τ:

    ℓ_i = −log( exp(s(q_i, k_i) / τ) / Σ_j exp(s(q_i, k_j) / τ) )

The losses differ in the candidates j.

Shape letters: B pairs, K negatives, D features.
"""

import torch
from torch import Tensor

from lit_modules.functional.cross_entropy import cross_entropy
from lit_modules.functional.precision import result_dtype, widen

# As in F.normalize: shorter vectors are divided by this length, so a zero vector stays zero.
_SHORTEST = 1e-12


def info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    temperature: float = 0.1,
    symmetric: bool = False,
) -> Tensor:
    """Compute the InfoNCE loss: each query must find its positive among the candidates.

    Van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding" (2018), eq. 4.
    The other candidates are `negatives` (He et al., MoCo, 2020, eq. 1) or, without them, the positives of the
    other queries. The symmetric loss is the mean of that loss and of the loss with queries and positives
    exchanged (Radford et al., CLIP, 2021, figure 3).

    Args:
        queries: (B, D) of any norm; normalized here.
        positives: (B, D); row i belongs to query i.
        negatives: (K, D) for all queries, (B, K, D) for each query its own, or None for in-batch negatives.
        temperature: τ > 0; a lower value gives the most similar negatives more weight.
        symmetric: Use both directions; only with in-batch negatives.

    Returns:
        The mean loss, in the type of `queries` (fp32 for half precision in autocast). It is 0 for an empty
        batch, and for in-batch negatives with a single pair.

    Raises:
        ValueError: Shapes don't match, a symmetric loss has negatives, or `temperature` is not positive.
    """
    _check(queries, positives, temperature)
    q, k = _unit(queries), _unit(positives)
    if negatives is None:
        similarities = q @ k.T / temperature  # (B, B), the positive on the diagonal
        matches = torch.arange(len(q), device=q.device)
        loss = cross_entropy(similarities, matches)
        if symmetric:
            loss = (loss + cross_entropy(similarities.T, matches)) / 2
        return loss.to(result_dtype(queries))
    if symmetric:
        raise ValueError("a symmetric loss takes its negatives from the batch; pass negatives=None")
    batch, features = queries.shape
    if negatives.shape[-1] != features or not (
        negatives.dim() == 2 or (negatives.dim() == 3 and len(negatives) == batch)
    ):
        raise ValueError(
            f"for queries of shape ({batch}, {features}), negatives must be (K, {features}) or "
            f"({batch}, K, {features}); got {tuple(negatives.shape)}"
        )
    n = _unit(negatives)
    to_positive = (q * k).sum(-1, keepdim=True)  # (B, 1)
    to_negatives = (n @ q[..., None]).squeeze(-1) if n.dim() == 3 else q @ n.T  # (B, K)
    candidates = torch.cat([to_positive, to_negatives], dim=-1) / temperature  # (B, 1 + K), positive first
    first = torch.zeros(len(q), dtype=torch.long, device=q.device)
    return cross_entropy(candidates, first).to(result_dtype(queries))


def nt_xent(first: Tensor, second: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Compute the NT-Xent loss of two views: each of the 2B views must find its partner among the others.

    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (2020), eq. 1. Unlike
    in symmetric InfoNCE, views of the same side are candidates too. A view is never its own candidate.

    Args:
        first: (B, D) of any norm; normalized here.
        second: (B, D); row i shows the same sample as row i of `first`.
        temperature: τ > 0.

    Returns:
        The mean loss over the 2B views, in the type of `first` (fp32 for half precision in autocast).

    Raises:
        ValueError: Shapes don't match, or `temperature` is not positive.
    """
    _check(first, second, temperature)
    views = _unit(torch.cat([first, second]))  # (2B, D)
    similarities = views @ views.T / temperature  # (2B, 2B)
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    partners = torch.arange(len(views), device=views.device).roll(len(first))
    return cross_entropy(similarities.masked_fill(itself, -torch.inf), partners).to(result_dtype(first))


def _unit(x: Tensor) -> Tensor:
    """Scale the rows of `x` (..., D) to length 1; clamp before the root, because its slope at 0 is inf."""
    x = widen(x)
    return x * x.square().sum(-1, keepdim=True).clamp(min=_SHORTEST**2).rsqrt()


def _check(left: Tensor, right: Tensor, temperature: float) -> None:
    if left.dim() != 2 or left.shape != right.shape:
        raise ValueError(
            f"both sides of the pairs must have the same shape (B, D); "
            f"got {tuple(left.shape)} and {tuple(right.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be positive; got {temperature}")

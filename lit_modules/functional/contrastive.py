"""Contrastive losses: pick the positive out of a line-up, by cosine similarity over a temperature.

Each is a cross-entropy whose classes are candidates. With s the cosine similarity and τ the temperature,

    ℓ_i = −log( exp(s(q_i, k_i) / τ) / Σ_j exp(s(q_i, k_j) / τ) )

and what differs is which candidates j stand beside the positive.

Shape letters: B pairs, K negatives, D features.
"""

import torch
from torch import Tensor

from lit_modules.functional.cross_entropy import cross_entropy
from lit_modules.functional.precision import result_dtype, widen

# As in F.normalize: shorter vectors than this are divided by it, so that a zero vector stays one.
_SHORTEST = 1e-12


def info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    temperature: float = 0.1,
    symmetric: bool = False,
) -> Tensor:
    """InfoNCE: how well each query picks its positive out of the candidates.

    Van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding" (2018), eq. 4.
    Given negatives, those are the candidates beside the positive (He et al., MoCo, 2020, eq. 1). Otherwise it
    is in-batch and one-way: the positives of the other queries are. Symmetric, it is the mean of that and of
    picking the query for each positive (Radford et al., CLIP, 2021, figure 3).

    Args:
        queries: (B, D), of any length; normalised here.
        positives: (B, D), row i belonging to query i.
        negatives: (K, D), shared by all queries, or (B, K, D), each query's own; None for in-batch.
        temperature: τ > 0; the lower, the more the nearest negatives count.
        symmetric: Score both directions; in-batch only.

    Returns:
        The mean loss, in the type of `queries` (fp32 for half precision in autocast). A batch of one pair
        has no in-batch negatives and costs 0, as does an empty one.

    Raises:
        ValueError: shapes that don't match, negatives for a symmetric loss, a `temperature` not above 0.
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
        raise ValueError("a symmetric loss takes its negatives from the batch; give no negatives")
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
    candidates = (
        torch.cat([to_positive, to_negatives], dim=-1) / temperature
    )  # (B, 1 + K), the positive first
    first = torch.zeros(len(q), dtype=torch.long, device=q.device)
    return cross_entropy(candidates, first).to(result_dtype(queries))


def nt_xent(first: Tensor, second: Tensor, *, temperature: float = 0.5) -> Tensor:
    """NT-Xent, of two views of each sample: each of the 2B views picks its partner out of the 2B − 1 others.

    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (2020), eq. 1. Unlike
    in symmetric InfoNCE, views of the same side are candidates too; a view itself is none.

    Args:
        first: (B, D), of any length; normalised here.
        second: (B, D), row i showing the same sample as row i of `first`.
        temperature: τ > 0.

    Returns:
        The mean loss over the 2B views, in the type of `first` (fp32 for half precision in autocast).

    Raises:
        ValueError: shapes that don't match, a `temperature` that isn't positive.
    """
    _check(first, second, temperature)
    views = _unit(torch.cat([first, second]))  # (2B, D)
    similarities = views @ views.T / temperature  # (2B, 2B)
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    partners = torch.arange(len(views), device=views.device).roll(len(first))
    return cross_entropy(similarities.masked_fill(itself, -torch.inf), partners).to(result_dtype(first))


def _unit(x: Tensor) -> Tensor:
    """`x` (..., D) with rows of length 1. As the root's slope is inf at 0, it is kept away from there."""
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

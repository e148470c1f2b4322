"""Losses of pairs and policies.

Find the partner among candidates; prefer the better answers.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.demo.outcome import Outcome, Result, numbers
from lit_modules import functional


def info_nce() -> Outcome:
    """Find the partner of each query among candidates.

    Formula: ℓ_i = −log( exp(s(q_i, k_i) / τ) / Σ_j exp(s(q_i, k_j) / τ) ) with the cosine s
    Source: van den Oord, Li & Vinyals 2018, "Representation learning with contrastive predictive coding"
    Mistake: Dot products of vectors that are not normalized; long vectors then win.
    Code: lit_modules/functional/contrastive.py
    """
    q, k = numbers((1, 0), (1, 2), (-1, 1)), numbers((3, 1), (1, 1), (-1, 3))
    negatives, tau, each, partners = numbers((0, -1), (-2, -1)), 0.5, torch.arange(3), torch.arange(6).roll(3)
    explicit = torch.cat([_cosines(q, k).diagonal()[:, None], _cosines(q, negatives)], dim=-1) / tau
    views = _cosines(torch.cat([q, k]), torch.cat([q, k])) / tau
    others, name = views.clone().fill_diagonal_(-torch.inf), "F.cosine_similarity"
    return Outcome(
        inputs={"queries": q, "positives": k, "negatives": negatives, "τ": tau},
        results=[
            Result(
                "in-batch: the other positives are the negatives",
                functional.info_nce(q, k, temperature=tau),
                name,
                F.cross_entropy(_cosines(q, k) / tau, each),
                wrong=("dot products", F.cross_entropy(q @ k.T / tau, each)),
            ),
            Result(
                "explicit negatives",
                functional.info_nce(q, k, negatives, temperature=tau),
                name,
                F.cross_entropy(explicit, torch.zeros_like(each)),
            ),
            Result(
                "NT-Xent of SimCLR: both directions, all other views",
                functional.nt_xent(q, k, temperature=tau),
                name,
                F.cross_entropy(others, partners),
                wrong=("itself a candidate", F.cross_entropy(views, partners)),
            ),
        ],
    )


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of each row of a with each row of b."""
    return F.cosine_similarity(a[:, None], b[None], dim=-1)


def grpo() -> Outcome:
    """Prefer the answers that are better than the others of their group.

    Formula: −min(ρA, clip(ρ, 1 ± ε) A) + β k3 with ρ = π / π_old, A = (r − mean r) / std r
    Source: Shao et al. 2024, "DeepSeekMath", eq. 3
    Mistake: No mean subtracted; clipping without the minimum, which keeps bad answers from being corrected.
    Code: lit_modules/functional/policy.py
    """
    rewards, mask, name = numbers(1, 0, 0, 1), torch.ones(4, 2, dtype=torch.bool), "formula in PyTorch"
    new = numbers((-0.5, -1.0), (-0.2, -0.7), (-1.5, -0.9), (-0.4, -0.6))
    old = numbers((-0.9, -1.0), (-0.6, -0.7), (-1.0, -0.9), (-0.4, -0.8))
    a, centred = functional.group_advantages(rewards), rewards - rewards.mean()
    ratios = (new - old).exp()
    clipped = ratios.clamp(0.8, 1.2) * a[:, None]
    loss, k3 = -torch.minimum(ratios * a[:, None], clipped), 1 / ratios + ratios.log() - 1
    ours = partial(functional.grpo_loss, new, a, mask, old_log_probs=old)
    return Outcome(
        inputs={"rewards": rewards, "log π": new, "log π_old": old},
        results=[
            Result(
                "advantages A",
                a,
                "torch.std",
                centred / (rewards.std(correction=0) + 1e-6),
                wrong=("no mean subtracted", rewards / (rewards.std(correction=0) + 1e-6)),
            ),
            Result("loss, ε = 0.2", ours(), name, loss.mean(), ("no minimum", -clipped.mean())),
            Result(
                "loss with β = 0.5, π_ref = π_old",
                ours(reference_log_probs=old, kl_weight=0.5),
                name,
                (loss + 0.5 * k3).mean(),
                wrong=("KL ratio inverted", (loss + 0.5 * (ratios - ratios.log() - 1)).mean()),
            ),
        ],
    )

"""Probabilities.

The softmax family, entropy and divergence.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch.distributions import Categorical

from experiments.demo.outcome import Outcome, Result, numbers
from lit_modules import functional


def softmax() -> Outcome:
    """Turn scores into probabilities.

    Formula: p_i = exp(x_i − max x) / Σ_j exp(x_j − max x)
    Source: Bridle 1990, "Probabilistic interpretation of feedforward classification network outputs"
    Mistake: Leaving out the maximum: exp overflows, and inf / inf is NaN.
    Code: lit_modules/functional/softmax.py
    """
    x, batch = numbers(1000, 1001, 1002), numbers((1, 2, 3), (4, 4, 4))
    return Outcome(
        inputs={"x": x, "batch": batch},
        results=[
            Result(
                "softmax(x)",
                functional.softmax(x),
                "torch.softmax",
                torch.softmax(x, dim=-1),
                wrong=("no maximum", x.exp() / x.exp().sum()),
            ),
            Result(
                "softmax(batch): each row sums to 1",
                functional.softmax(batch, dim=-1),
                "torch.softmax",
                torch.softmax(batch, dim=-1),
                wrong=("dim=0", torch.softmax(batch, dim=0)),
            ),
        ],
    )


def log_softmax() -> Outcome:
    """Turn scores into log-probabilities.

    Formula: log p_i = (x_i − max x) − log Σ_j exp(x_j − max x)
    Source: Blanchard, Higham & Higham 2021, "Accurately computing the log-sum-exp and softmax functions"
    Mistake: Taking the logarithm of a softmax: a small probability underflows to 0, and log 0 is −inf.
    Code: lit_modules/functional/softmax.py
    """
    x = numbers(0, 10, 1000)
    return Outcome(
        inputs={"x": x},
        results=[
            Result(
                "log_softmax(x)",
                functional.log_softmax(x),
                "torch.log_softmax",
                torch.log_softmax(x, dim=-1),
                wrong=("log(softmax(x))", torch.softmax(x, dim=-1).log()),
            )
        ],
    )


def logsumexp() -> Outcome:
    """Add numbers that are given by their logarithms.

    Formula: log Σ_i exp(x_i) = max x + log Σ_i exp(x_i − max x)
    Source: Blanchard, Higham & Higham 2021, "Accurately computing the log-sum-exp and softmax functions"
    Mistake: log(exp(x).sum()) overflows for x > 709 in fp64, and for x > 88 in fp32.
    Code: lit_modules/functional/softmax.py
    """
    x = numbers(1000, 1001, 1002)
    total = functional.logsumexp(x)
    return Outcome(
        inputs={"x": x},
        results=[
            Result(
                "logsumexp(x)",
                total,
                "torch.logsumexp",
                torch.logsumexp(x, dim=-1),
                wrong=("log(exp(x).sum())", x.exp().sum().log()),
            ),
            Result("x − logsumexp(x)", x - total, "torch.log_softmax", torch.log_softmax(x, dim=-1)),
        ],
    )


def entropy() -> Outcome:
    """Measure how uncertain a distribution is, in nats.

    Formula: H(p) = −Σ_c p_c log p_c
    Source: Shannon 1948, "A mathematical theory of communication", section 6
    Mistake: Computing 0 · log 0, which is NaN in floating point; its limit is 0.
    Code: lit_modules/functional/policy.py
    """
    p = numbers((0.25, 0.25, 0.25, 0.25), (0.5, 0.25, 0.125, 0.125), (0.5, 0.5, 0, 0), (1, 0, 0, 0))
    return Outcome(
        inputs={"p": p},
        results=[
            Result(
                "H(p) of each row",
                functional.token_entropy(p.log()),
                "torch Categorical",
                Categorical(p).entropy(),
                wrong=("−(p * log p).sum()", -(p * p.log()).sum(-1)),
                tolerance=1e-6,  # Categorical clamps probabilities to at least 2e-16
            ),
        ],
    )


def kl_divergence() -> Outcome:
    """Measure the cost of using the distribution q when p is true.

    Formula: KL(p ‖ q) = Σ_c p_c log(p_c / q_c), and H(p, q) = H(p) + KL(p ‖ q)
    Source: Kullback & Leibler 1951, "On information and sufficiency"
    Mistake: Exchanging p and q; clamping zeros, which hides an infinite divergence.
    Code: lit_modules/functional/divergence.py
    Picture: two other distributions, and the terms of both divergences
    """
    p, q, hole = numbers(0.5, 0.25, 0.25), numbers(0.9, 0.05, 0.05), numbers(0.5, 0.5, 0)
    kl, entropy = functional.kl_divergence(p, q), functional.cross_entropy_from_probabilities(p, p)
    theirs, name = partial(F.kl_div, reduction="sum"), "F.kl_div"
    return Outcome(
        inputs={"p": p, "q": q, "q with a zero": hole},
        results=[
            Result("KL(p ‖ q)", kl, name, theirs(q.log(), p), ("KL(q ‖ p)", theirs(p.log(), q))),
            Result(
                "KL from logits",
                functional.kl_divergence_from_logits(p.log() + 3, q.log() - 5),
                name,
                theirs(q.log(), p),
            ),
            Result(
                "H(p) + KL(p ‖ q) = H(p, q)", entropy + kl, "F.cross_entropy", F.cross_entropy(q.log(), p)
            ),
            Result(
                "KL(p ‖ q with a zero)",
                functional.kl_divergence(p, hole),
                name,
                theirs(hole.log(), p),
                wrong=("zeros clamped", theirs(hole.clamp(min=1e-9).log(), p)),
            ),
        ],
    )

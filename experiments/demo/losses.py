"""Losses.

Objectives for classes, numbers, pairs and policies.
"""

import numpy as np
import torch
import torch.nn.functional as F

from experiments.demo.outcome import Outcome, Result, error_of, numbers
from lit_modules import functional
from lit_modules.functional import backward
from lit_modules.functional.regression import mse_l1_cosine

_LOGITS = ((2.0, 1.0, 0.1), (0.5, 2.5, 0.3))
_CLASSES = (0, 2)


def cross_entropy() -> Outcome:
    """Measure how improbable the true classes are.

    Formula: ℓ = −Σ_c q_c log p_c with p = softmax(x); −log p_t for a class index t
    Source: Good 1952, "Rational decisions"; PyTorch's `F.cross_entropy` with the classes last
    Mistake: Passing probabilities as logits; a sum instead of the mean; classes in the wrong dimension.
    Code: lit_modules/functional/cross_entropy.py
    """
    x, t, p = numbers(*_LOGITS), torch.tensor(_CLASSES), numbers((0.7, 0.2, 0.1), (1, 0, 0))
    onehot, at_t, total = F.one_hot(t, 3).double(), p[[0, 1], t], F.cross_entropy(x, t, reduction="sum")
    tokens, labels = torch.stack([x, x + 1, x * 2], dim=1), t[:, None].expand(2, 3)
    ours, theirs, name = functional.cross_entropy, F.cross_entropy, "F.cross_entropy"
    return Outcome(
        inputs={"logits": x, "classes": t, "probabilities": p},
        results=[
            Result(
                "class indices", ours(x, t), name, theirs(x, t), ("softmax twice", theirs(x.softmax(-1), t))
            ),
            Result("one-hot targets", ours(x, onehot), name, theirs(x, onehot), ("sum, not mean", total)),
            Result(
                "probabilities, log ≥ −100",
                functional.cross_entropy_from_probabilities(p, t),
                "NumPy",
                -np.log(at_t.numpy(), where=at_t.numpy() > 0, out=np.full(2, -100.0)).mean(),
                wrong=("log 0", -at_t.log().mean()),
            ),
            Result(
                "logits (2, 3, 3), one class for each of 2 × 3 tokens",
                ours(tokens, labels),
                name,
                theirs(tokens.mT, labels),
                wrong=("classes as dim 1", theirs(tokens, labels)),
            ),
        ],
    )


def binary_cross_entropy() -> Outcome:
    """Measure how improbable binary labels are.

    Formula: ℓ = −t log p − (1 − t) log(1 − p) with p = σ(x), and ∂ℓ/∂x = p − t
    Source: Cox 1958, "The regression analysis of binary sequences"
    Mistake: Sigmoid and then log, which is −inf for large logits; a derivative with a further p (1 − p).
    Code: lit_modules/functional/cross_entropy.py
    """
    x, t, far = numbers(2, -1, 0.5).requires_grad_(), numbers(1, 0, 1), numbers(-1000, 1000, 0)
    ours, theirs = functional.binary_cross_entropy_with_logits, F.binary_cross_entropy_with_logits
    (slope,) = torch.autograd.grad(ours(x, t, reduction="sum"), x)
    (expected,) = torch.autograd.grad(theirs(x, t, reduction="sum"), x)
    p, p_far = x.sigmoid(), far.sigmoid()
    return Outcome(
        inputs={"logits": x, "labels": t, "large logits": far},
        results=[
            Result("loss of the logits", ours(x, t), "F.bce_with_logits", theirs(x, t)),
            Result(
                "loss of the probabilities",
                functional.binary_cross_entropy_from_probabilities(p, t),
                "F.binary_cross_entropy",
                F.binary_cross_entropy(p, t),
            ),
            Result(
                "gradient, p − t", slope, "autograd", expected, ("(p − t) p (1 − p)", (p - t) * p * (1 - p))
            ),
            Result(
                "each loss of the large logits",
                ours(far, t, reduction="none"),
                "F.bce_with_logits",
                theirs(far, t, reduction="none"),
                wrong=("log(sigmoid(x))", -t * p_far.log() - (1 - t) * (1 - p_far).log()),
            ),
        ],
    )


def categorical_cross_entropy() -> Outcome:
    """Differentiate softmax and cross-entropy together.

    Formula: ∂ℓ/∂x = (p − y) / N with p = softmax(x), y one-hot and N rows
    Source: Bridle 1990, "Probabilistic interpretation of feedforward classification network outputs"
    Mistake: Not dividing by N, although the loss is a mean; the learning rate then grows with the batch.
    Code: lit_modules/functional/backward.py
    """
    x, t = numbers(*_LOGITS).requires_grad_(), torch.tensor(_CLASSES)
    y = F.one_hot(t, 3).double()
    (ours,) = torch.autograd.grad(backward.softmax_cross_entropy(x, t).mean(), x)
    (theirs,) = torch.autograd.grad(F.cross_entropy(x, t), x)
    p = functional.softmax(x)
    return Outcome(
        inputs={"logits": x, "y": y},
        results=[
            Result("p", p, "torch.softmax", x.softmax(-1)),
            Result("gradient by hand", ours, "autograd", theirs, wrong=("p − y", p - y)),
            Result("(p − y) / N", (p - y) / len(x), "autograd", theirs),
        ],
    )


def mse() -> Outcome:
    """Measure the squared distance of numbers.

    Formula: ℓ = mean of (y − t)²
    Source: Legendre 1805, "Nouvelles méthodes pour la détermination des orbites des comètes"
    Mistake: Subtracting (N,) from (N, 1): they broadcast to N × N differences.
    Code: lit_modules/functional/regression.py
    """
    y, t = numbers(2.5, 0.0, 2.0, 8.0), numbers(3.0, -0.5, 2.0, 7.0)
    return Outcome(
        inputs={"predictions": y, "targets": t},
        results=[
            Result(
                "mse",
                functional.mse(y, t),
                "F.mse_loss",
                F.mse_loss(y, t),
                wrong=("(4, 1) − (4,)", (y[:, None] - t).square().mean()),
            ),
            Result(
                "of vectors: mse + mean |y − t| − cos(y, t)",
                mse_l1_cosine(y, t),
                "F.cosine_similarity",
                F.mse_loss(y, t) + F.l1_loss(y, t) - F.cosine_similarity(y, t, dim=0),
            ),
        ],
    )


def focal_loss() -> Outcome:
    """Give less weight to samples that are classified well.

    Formula: ℓ = −α_t (1 − p_t)^γ log p_t
    Source: Lin et al. 2017, "Focal loss for dense object detection", eq. 5
    Mistake: Taking p_t from the mean loss, not from each sample; indexing an α of one entry by the class.
    Code: lit_modules/functional/focal.py
    Picture: the loss against p_t: cross-entropy and focal loss for several γ
    """
    from torchvision.ops import sigmoid_focal_loss  # slow to import

    x, t, alpha = numbers(*_LOGITS), torch.tensor(_CLASSES), numbers(0.25, 0.5, 0.75)
    entropies = F.cross_entropy(x, t, reduction="none")
    mean, one, binary = entropies.mean(), numbers(0.25), numbers(2, -1, 0.5)
    labels = numbers(1, 1, 0)
    return Outcome(
        inputs={"logits": x, "classes": t, "α": alpha},
        results=[
            Result("γ = 0", functional.focal_loss(x, t, gamma=0), "F.cross_entropy", mean),
            Result(
                "γ = 2, one α for each class",
                functional.focal_loss(x, t, gamma=2, alpha=alpha),
                "formula in PyTorch",
                (alpha[t] * (1 - (-entropies).exp()) ** 2 * entropies).mean(),
                wrong=("p_t of the mean", (alpha[t] * (1 - (-mean).exp()) ** 2 * mean).mean()),
            ),
            Result(
                "γ = 2, independent labels, α = 0.25",
                functional.sigmoid_focal_loss(binary, labels, alpha=0.25),
                "torchvision",
                sigmoid_focal_loss(binary, labels, alpha=0.25, gamma=2, reduction="mean"),
                wrong=("α[classes]", error_of(lambda: one[t])),
            ),
        ],
    )

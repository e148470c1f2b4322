"""Objectives: the number that training minimises, from the outputs of a network and the targets.

An objective is built from its config and the description of the data. It is called with the outputs and the
targets of a batch, and returns a scalar; distillation needs the inputs too. The target −100 marks a position
that does not count. Evaluation does not use the objective: it reports the same loss for all objectives of a
model, so that runs compare.

Shape letters: `...` the batch dimensions, C classes or vocabulary, N targets that count.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.configs.objective import (
    BinaryCrossEntropyConfig,
    BinaryCrossEntropyFromProbabilitiesConfig,
    CrossEntropyConfig,
    CrossEntropyFromProbabilitiesConfig,
    DistillationConfig,
    FocalConfig,
    InfoNCEConfig,
    KLConfig,
    MSEConfig,
    MSEL1CosineConfig,
    NTXentConfig,
)
from lit_modules.functional.backward import sigmoid
from lit_modules.functional.contrastive import info_nce, nt_xent
from lit_modules.functional.cross_entropy import (
    binary_cross_entropy_from_probabilities,
    binary_cross_entropy_with_logits,
    cross_entropy,
    cross_entropy_from_probabilities,
)
from lit_modules.functional.divergence import kl_divergence_from_logits
from lit_modules.functional.focal import focal_loss
from lit_modules.functional.precision import widen
from lit_modules.functional.regression import mse, mse_l1_cosine
from lit_modules.functional.softmax import softmax
from lit_modules.metrics.token_metrics import IGNORED

Objective = Callable[[Tensor, Tensor], Tensor]
"""From outputs and targets to a scalar."""


class CrossEntropy:
    """The mean of −log softmax(x)_t over the targets t that count."""

    def __init__(self, config: CrossEntropyConfig, info: Any = None) -> None:
        self.config = config

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs (..., C) and class indices (...)."""
        smoothing = self.config.label_smoothing
        outputs = widen(outputs)
        if self.config.implementation == "by_hand":
            return cross_entropy(outputs, targets, ignore_index=IGNORED, label_smoothing=smoothing)
        rows = outputs.flatten(0, -2)  # (N, C)
        return F.cross_entropy(rows, targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)


class CrossEntropyFromProbabilities:
    """The mean of −Σ_c q_c log p_c, with p = softmax(x) and q one-hot, as notebooks write it.

    `CrossEntropy` is exact where this one is not: a probability that underflows to 0 counts as e⁻¹⁰⁰.
    """

    def __init__(self, config: CrossEntropyFromProbabilitiesConfig, info: Any = None) -> None:
        self.config = config

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs (..., C) and class indices (...)."""
        outputs, targets = counted(outputs, targets)
        wanted = one_hot(outputs, targets, self.config.label_smoothing)
        return cross_entropy_from_probabilities(softmax(outputs), wanted)


class BinaryCrossEntropy:
    """The mean of −t log σ(z) − (1 − t) log(1 − σ(z)), with targets t of 0 and 1.

    Two classes need one output z, the logit of the second class. More classes need one output each: t is
    one-hot, and each output tells its class from all others.
    """

    def __init__(self, config: BinaryCrossEntropyConfig, info: Any = None) -> None:
        self.config = config

    def num_outputs(self, num_classes: int) -> int:
        """Return the number of outputs that the network of a classifier needs."""
        return 1 if num_classes == 2 else num_classes

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs (..., C) and class indices (...), or (..., 1) and targets 0 and 1."""
        outputs, wanted = binary_targets(outputs, targets)
        if self.config.implementation == "by_hand":
            return binary_cross_entropy_with_logits(outputs, wanted)
        return F.binary_cross_entropy_with_logits(outputs, wanted)


class BinaryCrossEntropyFromProbabilities(BinaryCrossEntropy):
    """The same from p = σ(z). A probability that is rounded to 0 or 1 counts as e⁻¹⁰⁰ at most."""

    config: BinaryCrossEntropyFromProbabilitiesConfig  # type: ignore[assignment]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs (..., C) and class indices (...), or (..., 1) and targets 0 and 1."""
        outputs, wanted = binary_targets(outputs, targets)
        if self.config.implementation == "by_hand":
            return binary_cross_entropy_from_probabilities(sigmoid(outputs), wanted)
        with torch.autocast(outputs.device.type, enabled=False):  # PyTorch refuses this loss in autocast
            return F.binary_cross_entropy(torch.sigmoid(outputs), wanted)


class MeanSquaredError:
    """The mean of (y − t)² over all entries; for class indices, y = softmax(x) and t is one-hot."""

    def __init__(self, config: MSEConfig, info: Any = None) -> None:
        self.config = config

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs and targets of one shape, or of outputs (..., C) and indices (...)."""
        by_hand = self.config.implementation == "by_hand"
        outputs = widen(outputs)
        if not targets.is_floating_point():
            outputs, targets = counted(outputs, targets)
            targets = one_hot(outputs, targets)
            outputs = softmax(outputs) if by_hand else outputs.softmax(-1)
        return mse(outputs, targets) if by_hand else F.mse_loss(outputs, targets)


class MSEL1Cosine:
    """The mean squared error, plus the mean absolute error, minus the mean cosine of vectors."""

    def __init__(self, config: MSEL1CosineConfig, info: Any = None) -> None:
        self.config = config

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of predicted and true vectors, (..., D) each."""
        return mse_l1_cosine(outputs, targets)


class KL:
    """The mean of KL(q ‖ softmax(x)), with q one-hot and smoothed.

    It is the cross-entropy minus the entropy of q, which does not depend on x: the gradients are equal.
    """

    def __init__(self, config: KLConfig, info: Any = None) -> None:
        self.config = config

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs (..., C) and class indices (...)."""
        outputs, targets = counted(outputs, targets)
        wanted = one_hot(outputs, targets, self.config.label_smoothing)
        if self.config.implementation == "by_hand":
            return kl_divergence_from_logits(wanted.log(), outputs)
        return F.kl_div(outputs.log_softmax(-1), wanted, reduction="batchmean")


class Focal:
    """The mean of −α_t (1 − p_t)^γ log p_t, with p = softmax(x) (Lin et al. 2017, eq. 5).

    Raises:
        ValueError: `alpha` does not have one entry for each class of the data.
    """

    def __init__(self, config: FocalConfig, info: Any = None) -> None:
        self.config = config
        classes = getattr(info, "class_names", None) or getattr(info, "target_vocabulary", None)
        num_classes = len(classes) if classes else getattr(info, "vocab_size", len(config.alpha))
        if config.alpha and len(config.alpha) != num_classes:
            raise ValueError(
                f"alpha has {len(config.alpha)} entries, but the data has {num_classes} classes; "
                "give one factor for each class"
            )

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs (..., C) and class indices (...)."""
        outputs, targets = counted(outputs, targets)
        alpha = outputs.new_tensor(self.config.alpha) if self.config.alpha else None
        if self.config.implementation == "by_hand":
            return focal_loss(outputs, targets, gamma=self.config.gamma, alpha=alpha)
        losses = F.cross_entropy(outputs, targets, reduction="none")
        focus = (1 - torch.exp(-losses)).clamp(min=torch.finfo(losses.dtype).tiny) ** self.config.gamma
        return (focus * losses * (1 if alpha is None else alpha[targets])).mean()


class Distillation:
    """The mean of (1 − λ) T² KL(softmax(a / T) ‖ softmax(x / T)) − λ log softmax(x)_t; a is the teacher's x.

    λ is `label_weight`. The factor T² keeps the gradients of both terms of one size (Hinton, Vinyals and
    Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2).

    Attributes:
        teacher: From inputs to logits (..., C). It is set before the training. A trained student works
            without it.
    """

    def __init__(self, config: DistillationConfig, info: Any = None) -> None:
        self.config = config
        self.teacher: nn.Module | None = None
        self.labels = CrossEntropy(CrossEntropyConfig(implementation=config.implementation))

    def __call__(self, outputs: Tensor, targets: Tensor, *, inputs: Tensor) -> Tensor:
        """Return the loss of outputs (..., C) and class indices (...) of a batch of inputs."""
        assert self.teacher is not None
        with torch.no_grad():
            wanted = widen(self.teacher.to(inputs.device)(inputs))
        outputs, heat, share = widen(outputs), self.config.temperature, self.config.label_weight
        if self.config.implementation == "by_hand":
            loss = kl_divergence_from_logits(wanted, outputs, temperature=heat)
        else:
            p, q = ((x / heat).log_softmax(-1).flatten(0, -2) for x in (wanted, outputs))
            loss = F.kl_div(q, p, reduction="batchmean", log_target=True)
        loss = (1 - share) * heat**2 * loss
        return loss + share * self.labels(outputs, targets) if share else loss


class NTXent:
    """The NT-Xent loss (Chen et al. 2020, eq. 1): each view must find the other view of its image.

    In autocast it is computed in fp32, because similarities are divided by a small temperature.
    """

    def __init__(self, config: NTXentConfig, info: Any = None) -> None:
        self.config = config

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of the projections (B, D) of the first views and of the second views."""
        first, second = widen(outputs), widen(targets)
        with torch.autocast(first.device.type, enabled=False):
            if self.config.implementation == "by_hand":
                return nt_xent(first, second, temperature=self.config.temperature)
            views = F.normalize(torch.cat([first, second]), dim=-1)  # (2B, D)
            similarities = (views @ views.T / self.config.temperature).fill_diagonal_(-torch.inf)
            partners = torch.arange(len(views), device=views.device).roll(len(first))
            return F.cross_entropy(similarities, partners)


class InfoNCE:
    """The symmetric InfoNCE loss: find the second view among second views, and the first among first ones."""

    def __init__(self, config: InfoNCEConfig, info: Any = None) -> None:
        self.config = config

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of the projections (B, D) of the first views and of the second views."""
        first, second, heat = widen(outputs), widen(targets), self.config.temperature
        with torch.autocast(first.device.type, enabled=False):
            if self.config.implementation == "by_hand":
                return info_nce(first, second, temperature=heat, symmetric=True)
            similarities = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T / heat  # (B, B)
            same = torch.arange(len(first), device=first.device)
            return (F.cross_entropy(similarities, same) + F.cross_entropy(similarities.T, same)) / 2


def counted(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out the ignored targets: return outputs (N, C), at least fp32, and targets (N,)."""
    rows, indices = widen(outputs).flatten(0, -2), targets.flatten()
    keep = indices != IGNORED
    return rows[keep], indices[keep]


def one_hot(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return target distributions (N, C) of class indices (N,), in the type of the outputs."""
    classes = outputs.shape[-1]
    return F.one_hot(targets, classes).to(outputs.dtype) * (1 - label_smoothing) + label_smoothing / classes


def binary_targets(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and targets of 0 and 1 of one shape: (N,) for one output, (N, C) for C outputs."""
    outputs, targets = counted(outputs, targets)
    if outputs.shape[-1] == 1:
        return outputs.squeeze(-1), targets.to(outputs.dtype)
    return outputs, one_hot(outputs, targets)

"""The steering methods that are compared. Each computes one vector per prompt from the same training pairs.

Shape letters: N training prompts, M prompts to steer, W width.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from experiments.errors import UserError

METHODS = {
    "none": "no steering",
    "prompting": "an instruction before the prompt",
    "random": "random directions with the lengths of the learned vectors",
    "mean": "the mean vector of training",
    "mean_rescaled": "the mean vector, scaled to the mean length of the vectors",
    "router": "the mean vector of the family that a linear probe predicts",
    "fine_router": "the mean vector of the instantiation that a linear probe predicts",
    "ridge": "ridge regression from hidden state to vector",
    "l2s": "the learned network",
    "l2s_shuffled": "the vectors of the learned network, shuffled between prompts",
    "lora": "low-rank updates of the model's weights, trained on the wanted answers",
    "instantiation_mean": "oracle: the mean vector of the true instantiation",
    "p2s": "oracle: the prompt's own vector, from its own forced answers",
}
"""Description of each method, in the order of the table."""
WITHOUT_FACTOR = ("none", "prompting")
"""Methods that add nothing to hidden states."""
SEEDED = ("random", "l2s", "l2s_shuffled")
"""Methods that depend on the seed."""
Learned = Callable[[Tensor], Tensor]
"""A trained network, from hidden states (M, W) to vectors (M, W)."""
Predict = Callable[[Tensor], list[str]]
"""A probe, from hidden states (M, W) to M names."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Prompts with their hidden states and vectors."""

    h: Tensor  # hidden states at the input layer, (N, W)
    z: Tensor  # prompt-to-steer vectors at the target layer, (N, W); zero for neutral prompts
    instantiations: Sequence[str]  # name of the instantiation of each prompt
    families: Sequence[str]  # name of the family of each prompt

    def __len__(self) -> int:
        return len(self.h)

    @property
    def steered(self) -> Tensor:
        """True for prompts that are not neutral, (N,)."""
        return self.z.square().sum(-1) > 0


class FittedMethods:
    """The methods, fitted to the training pairs of two layers. Each fit is done on first use and kept."""

    def __init__(self, train: Pairs) -> None:
        self.train = train

    def vectors(self, method: str, asked: Pairs, *, learned: Learned, seed: int = 0) -> Tensor:
        """Compute the vector that a method adds to the hidden states of each prompt.

        Args:
            method: One of `METHODS`.
            asked: The prompts to steer. Only oracles use more than `h`.
            learned: The trained network.
            seed: Seed of random directions and of the shuffle.

        Returns:
            Vectors (M, W).

        Raises:
            UserError: The method is unknown.
        """
        train = self.train
        generator = torch.Generator().manual_seed(seed)
        match method:
            case "none" | "prompting" | "lora":
                return torch.zeros_like(asked.z)
            case "random":
                directions = torch.randn(asked.z.shape, generator=generator)
                lengths = learned(asked.h).norm(dim=-1, keepdim=True)
                return directions / directions.norm(dim=-1, keepdim=True) * lengths
            case "mean":
                return self.mean.expand_as(asked.z)
            case "mean_rescaled":
                length = train.z[train.steered].norm(dim=-1).mean()
                return (self.mean / self.mean.norm() * length).expand_as(asked.z)
            case "router":
                return group_means(train.z, train.families, self.predict_family(asked.h))
            case "fine_router":
                return group_means(train.z, train.instantiations, self.predict_instantiation(asked.h))
            case "ridge":
                return self.ridge(asked.h)
            case "l2s":
                return learned(asked.h)
            case "l2s_shuffled":
                return learned(asked.h)[derangement(len(asked), generator)]
            case "instantiation_mean":
                return group_means(train.z, train.instantiations, asked.instantiations)
            case "p2s":
                return asked.z
        raise UserError(f"unknown steering method {method!r}; choose from {', '.join(METHODS)}")

    @cached_property
    def mean(self) -> Tensor:
        """Mean vector of the training prompts that are not neutral, (W,)."""
        return self.train.z[self.train.steered].mean(0)

    @cached_property
    def predict_family(self) -> Predict:
        """Probe that predicts the family of a prompt."""
        return linear_probe(self.train.h, self.train.families)

    @cached_property
    def predict_instantiation(self) -> Predict:
        """Probe that predicts the instantiation of a prompt."""
        return linear_probe(self.train.h, self.train.instantiations)

    @cached_property
    def ridge(self) -> Learned:
        """Ridge regression from hidden states to vectors."""
        return fit_ridge(self.train)


def group_means(vectors: Tensor, groups: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Compute the mean of a group's vectors (N, W) for each wanted group, (M, W)."""
    means = {name: vectors[torch.tensor([group == name for group in groups])].mean(0) for name in set(wanted)}
    return torch.stack([means[name] for name in wanted])


def derangement(count: int, generator: torch.Generator) -> Tensor:
    """Draw a permutation without fixed points, int64 (count,); a single element stays in place."""
    order = torch.randperm(count, generator=generator)
    places = torch.empty_like(order)
    places[order] = order.roll(1)
    return places


def fit_ridge(train: Pairs) -> Learned:
    """Fit ridge regression from standardised hidden states to vectors.

    The penalty is the power of ten (or half power) with the lowest generalised cross-validation score.

    Source: Golub, Heath & Wahba 1979.
    """
    mean, std = train.h.double().mean(0), train.h.double().std(0)
    std = std.where(std > 0, 1.0)
    x = (train.h.double() - mean) / std
    centre = train.z.double().mean(0)
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    projected = u.T @ (train.z.double() - centre)  # (rank, W)
    left = (train.z.double() - centre).square().sum() - projected.square().sum()  # outside the span of x
    best, weights = float("inf"), projected
    for penalty in torch.logspace(-2, 6, 17, dtype=torch.float64):
        shrunk = s**2 / (s**2 + penalty)
        residual = left + ((1 - shrunk).unsqueeze(-1) * projected).square().sum()
        # The subtracted mean uses one degree of freedom.
        score = float(residual / (len(x) - 1 - shrunk.sum()).clamp_min(1e-9) ** 2)
        if score < best:
            best, weights = score, (s / (s**2 + penalty)).unsqueeze(-1) * projected
    slopes = vt.T @ weights  # (W, W)

    def predict(h: Tensor) -> Tensor:
        return (((h.double() - mean) / std) @ slopes + centre).to(train.z.dtype)

    return predict


def linear_probe(states: Tensor, names: Sequence[str]) -> Predict:
    """Fit logistic regression from hidden states (N, W) to names."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(names)) == 1:
        return lambda h: [names[0]] * len(h)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(states.numpy(), list(names))
    return lambda h: [str(name) for name in probe.predict(h.numpy())]

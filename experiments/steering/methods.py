"""The ways to steer that are compared: each gives every prompt a vector, from the same training pairs.

Shape letters: N training prompts, M prompts to steer, W width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.errors import UserError

METHODS = {
    "none": "no steering",
    "prompting": "an instruction before the prompt",
    "random": "random directions of the learned vectors' lengths",
    "mean": "the mean vector of training",
    "mean_rescaled": "the mean vector, as long as vectors are on average",
    "router": "the mean vector of the family that a linear probe tells",
    "fine_router": "the mean vector of the instantiation that a linear probe tells",
    "ridge": "ridge regression from hidden state to vector",
    "l2s": "the learned network",
    "l2s_shuffled": "the learned network's vectors, given to other prompts",
    "instantiation_mean": "oracle: the mean vector of the true instantiation",
    "p2s": "oracle: the prompt's own vector, from its own forced answers",
}
"""In the order of the table."""
WITHOUT_FACTOR = ("none", "prompting")
"""Those that add nothing to hidden states."""
OF_A_SEED = ("random", "l2s", "l2s_shuffled")
"""Those that differ from one seed to another."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Prompts with their hidden states and vectors.

    Attributes:
        h: (N, W), at the layer that the vectors are learned from.
        z: (N, W), prompt-to-steer at the layer that is steered; zero for neutral prompts.
        instantiations: Names of what the prompts are to be steered towards.
        families: Those ones'.
    """

    h: Tensor
    z: Tensor
    instantiations: Sequence[str]
    families: Sequence[str]

    def __len__(self) -> int:
        return len(self.h)

    @property
    def steered(self) -> Tensor:
        """Boolean (N,): which prompts are not neutral."""
        return self.z.square().sum(-1) > 0


def steering_vectors(
    method: str, train: Pairs, asked: Pairs, *, learned: Callable[[Tensor], Tensor], seed: int = 0
) -> Tensor:
    """What a method adds to the hidden states of each prompt asked.

    Args:
        method: One of `METHODS`.
        train: What it may learn from.
        asked: Of these it sees `h` alone; the oracles, which bound the others, see the rest.
        learned: From hidden states (M, W) to the network's vectors (M, W).
        seed: Of random directions and of the shuffle.

    Returns:
        (M, W).

    Raises:
        UserError: There is no such method.
    """
    generator = torch.Generator().manual_seed(seed)
    zeros = torch.zeros_like(asked.z)
    mean = train.z[train.steered].mean(0)
    match method:
        case "none" | "prompting":
            return zeros
        case "random":
            directions = torch.randn(zeros.shape, generator=generator)
            lengths = learned(asked.h).norm(dim=-1, keepdim=True)
            return directions / directions.norm(dim=-1, keepdim=True) * lengths
        case "mean":
            return mean.expand_as(zeros)
        case "mean_rescaled":
            length = train.z[train.steered].norm(dim=-1).mean()
            return (mean / mean.norm() * length).expand_as(zeros)
        case "router":
            return group_means(train.z, train.families, _routed(train.h, train.families, asked.h))
        case "fine_router":
            names = _routed(train.h, train.instantiations, asked.h)
            return group_means(train.z, train.instantiations, names)
        case "ridge":
            return ridge(train, asked.h)
        case "l2s":
            return learned(asked.h)
        case "l2s_shuffled":
            return learned(asked.h)[derangement(len(asked), generator)]
        case "instantiation_mean":
            return group_means(train.z, train.instantiations, asked.instantiations)
        case "p2s":
            return asked.z
    raise UserError(f"unknown way to steer {method!r}; choose from {', '.join(METHODS)}")


def group_means(vectors: Tensor, groups: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """The mean of a group's vectors, (N, W), for each name wanted: (M, W)."""
    means = {name: vectors[torch.tensor([group == name for group in groups])].mean(0) for name in set(wanted)}
    return torch.stack([means[name] for name in wanted])


def derangement(count: int, generator: torch.Generator) -> Tensor:
    """An order in which nothing keeps its place, int64 (count,); of a single thing there is none."""
    order = torch.randperm(count, generator=generator)
    places = torch.empty_like(order)
    places[order] = order.roll(1)
    return places


def ridge(train: Pairs, h: Tensor) -> Tensor:
    """Vectors (M, W) by ridge regression on standardised hidden states, its penalty by leave-one-out.

    The penalty is the one of lowest generalised cross-validation among powers of ten (Golub et al. 1979).
    """
    mean, std = train.h.double().mean(0), train.h.double().std(0)
    std = std.where(std > 0, 1.0)
    x, asked = (train.h.double() - mean) / std, (h.double() - mean) / std
    centre = train.z.double().mean(0)
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    projected = u.T @ (train.z.double() - centre)  # (rank, W)
    left = (train.z.double() - centre).square().sum() - projected.square().sum()  # outside the span of x
    best, weights = float("inf"), projected
    for penalty in torch.logspace(-2, 6, 17, dtype=torch.float64):
        shrunk = s**2 / (s**2 + penalty)
        residual = left + ((1 - shrunk).unsqueeze(-1) * projected).square().sum()
        # One for the mean that was taken off.
        score = float(residual / (len(x) - 1 - shrunk.sum()).clamp_min(1e-9) ** 2)
        if score < best:
            best, weights = score, (s / (s**2 + penalty)).unsqueeze(-1) * projected
    return (asked @ (vt.T @ weights) + centre).to(train.z.dtype)


def _routed(train: Tensor, groups: Sequence[str], h: Tensor) -> list[str]:
    """The group of each hidden state by logistic regression from those of training, (N, W)."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(groups)) == 1:
        return [groups[0]] * len(h)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(train.numpy(), list(groups))
    return [str(name) for name in probe.predict(h.numpy())]

"""Stratified samples: a part of a labelled set in which every class keeps its share."""

import torch
from torch import Tensor

from datamodules.loading.epoch_loader import mix_seed


def stratified_sample(targets: Tensor, count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Part a labelled set in two.

    Each class gives the sample its share of `count`, rounded down; the classes with the largest remainders
    give one more each, until the sample is full.

    Args:
        targets: Class of each item, int64 (N,).
        count: Size of the sample, at least one per class.
        seed: Decides which items of each class are drawn.

    Returns:
        Indices of the sample (count,) and of the rest (N − count,), both ascending.

    Raises:
        ValueError: The sample would be larger than the set, or miss a class.
    """
    labels, sizes = targets.unique(return_counts=True)
    if not len(labels) <= count <= len(targets):
        raise ValueError(
            f"a stratified sample of {count} is impossible: there are {len(targets)} items "
            f"in {len(labels)} classes, and each class needs one"
        )
    exact = sizes.double() * count / len(targets)
    quota = exact.floor().long()
    short = count - int(quota.sum())
    quota[(quota - exact).argsort(stable=True)[:short]] += 1
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    for label, number in zip(labels.tolist(), quota.tolist(), strict=True):
        members = (targets == label).nonzero().squeeze(1)
        generator = torch.Generator().manual_seed(mix_seed(seed, label))
        chosen[members[torch.randperm(len(members), generator=generator)[:number]]] = True
    return chosen.nonzero().squeeze(1), (~chosen).nonzero().squeeze(1)

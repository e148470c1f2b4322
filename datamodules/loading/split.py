"""Stratified samples: a part of a labelled set that keeps the share of each class."""

import torch
from torch import Tensor

from datamodules.loading.epoch_loader import mix_seed


def stratified_sample(targets: Tensor, count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Split a labelled set into a stratified sample and the rest.

    Each class contributes its share of `count`, rounded down. The classes with the largest remainders
    contribute one more item each, until the sample is full.

    Args:
        targets: Class of each item, int64 (N,).
        count: Size of the sample, at least one per class.
        seed: Seed that decides which items of each class are sampled.

    Returns:
        Indices of the sample (count,) and of the rest (N − count,), both ascending.

    Raises:
        ValueError: The sample would be larger than the set, or smaller than the number of classes.
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

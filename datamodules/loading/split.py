"""Split a set: a stratified sample keeps the share of each class, a long tail makes classes rare."""

import torch
from torch import Tensor

from datamodules.loading.epoch_loader import mix_seed
from datamodules.loading.folds import balanced_folds


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


def long_tail(targets: Tensor, ratio: float, *, seed: int) -> Tensor:
    """Sample a long tail: class c = 0 … K − 1 keeps n · ratio^(−c / (K − 1)) items, at least one.

    n is the size of the smallest class, so that every class has enough items. Cui et al., "Class-Balanced
    Loss Based on Effective Number of Samples" (2019), section 5.1, shorten data sets in this way.

    Args:
        targets: Class of each item, int64 (N,).
        ratio: Size of the first class divided by the size of the last class.
        seed: Seed that decides which items of each class stay.

    Returns:
        Indices of the sample, ascending.
    """
    labels, sizes = targets.unique(return_counts=True)
    kept = []
    for place, label in enumerate(labels.tolist()):
        number = max(1, round(int(sizes.min()) * ratio ** (-place / max(1, len(labels) - 1))))
        members = (targets == label).nonzero().squeeze(1)
        generator = torch.Generator().manual_seed(mix_seed(seed, label))
        kept.append(members[torch.randperm(len(members), generator=generator)[:number]])
    return torch.cat(kept).sort().values


def split_parts(
    targets: Tensor, *, val: int, test: int, seed: int, folds: int | None = None, fold: int = 0
) -> Tensor:
    """Return the split of each item, int64 (N,): 0 training, 1 validation, 2 test.

    Splits and folds of classes are stratified; real targets are split at random.

    Args:
        targets: Classes, int64 (N,), or real targets (N, …).
        val: Number of validation items; 0 for none.
        test: Number of test items without folds; 0 for none.
        seed: Seed of the split.
        folds: Number of folds of a cross-validation; None for none.
        fold: The fold that is the test split; `fold` % `folds` is used.

    Raises:
        ValueError: A split would have fewer items than there are classes, or there are fewer items than
            folds.
    """
    part = torch.zeros(len(targets), dtype=torch.int64)
    numbers = targets.is_floating_point()
    if folds is not None:
        classes = [""] * len(targets) if numbers else [str(target) for target in targets.tolist()]
        dealt = torch.tensor(balanced_folds(classes, folds, seed=seed))
        part[dealt == fold % folds] = 2
        test = 0
    if numbers:
        generator = torch.Generator().manual_seed(mix_seed(seed))
        order = torch.randperm(len(targets), generator=generator)
        order = order[part[order] == 0]
        part[order[:test]] = 2
        part[order[test : test + val]] = 1
        return part
    rest = (part == 0).nonzero().squeeze(1)
    for code, count in ((2, test), (1, val)):
        if count:
            chosen, others = stratified_sample(targets[rest], count, seed=seed)
            part[rest[chosen]] = code
            rest = rest[others]
    return part

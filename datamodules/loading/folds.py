"""Folds of cross-validation with classes spread as evenly as possible."""

from collections.abc import Sequence

import torch

from datamodules.loading.epoch_loader import mix_seed


def balanced_folds(classes: Sequence[str], folds: int, *, seed: int) -> list[int]:
    """Deal items to folds in turn, class by class.

    For each class and for all items together, the sizes of two folds differ by at most one.

    Args:
        classes: Class of each item; in grouped cross-validation an item is a whole group.
        folds: Number of folds.
        seed: Seed that decides which items of a class share a fold.

    Returns:
        The fold of each item, 0 … `folds` − 1.

    Raises:
        ValueError: There are fewer items than folds.
    """
    if not 1 <= folds <= len(classes):
        raise ValueError(f"{len(classes)} items are not enough for {folds} folds; each fold needs one")
    dealt: list[int] = []
    for number, name in enumerate(sorted(set(classes))):
        members = [item for item, own in enumerate(classes) if own == name]
        generator = torch.Generator().manual_seed(mix_seed(seed, number))
        dealt += [members[i] for i in torch.randperm(len(members), generator=generator).tolist()]
    fold_of = {item: place % folds for place, item in enumerate(dealt)}
    return [fold_of[item] for item in range(len(classes))]

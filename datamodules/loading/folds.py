"""Folds of cross-validation in which every class is spread as evenly as it goes."""

from collections.abc import Sequence

import torch

from datamodules.loading.epoch_loader import mix_seed


def balanced_folds(classes: Sequence[str], folds: int, *, seed: int) -> list[int]:
    """Deal items out to folds, class by class, like cards.

    Of any class, and of all items together, two folds have numbers that differ by one at most.

    Args:
        classes: The class of each item; in grouped cross-validation an item is a whole group.
        folds: How many.
        seed: Decides which items of a class come together.

    Returns:
        The fold of each item, 0 … `folds` − 1.

    Raises:
        ValueError: There are fewer items than folds.
    """
    if not 1 <= folds <= len(classes):
        raise ValueError(f"{len(classes)} items can't be dealt out to {folds} folds; each needs one")
    dealt: list[int] = []
    for number, name in enumerate(sorted(set(classes))):
        members = [item for item, own in enumerate(classes) if own == name]
        generator = torch.Generator().manual_seed(mix_seed(seed, number))
        dealt += [members[i] for i in torch.randperm(len(members), generator=generator).tolist()]
    fold_of = {item: place % folds for place, item in enumerate(dealt)}
    return [fold_of[item] for item in range(len(classes))]

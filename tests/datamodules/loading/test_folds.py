from collections import Counter

import pytest
from sklearn.model_selection import StratifiedKFold

from datamodules.loading.folds import balanced_folds

PLAYS = ["comedy"] * 15 + ["history"] * 11 + ["tragedy"] * 12


@pytest.mark.parametrize("classes", [PLAYS, [*"aabbbbcccccccc"], [*"abcdef"]])
@pytest.mark.parametrize("folds", [1, 2, 5])
def test_every_class_is_spread_as_evenly_as_it_goes(classes: list[str], folds: int) -> None:
    fold = balanced_folds(classes, folds, seed=0)
    assert len(fold) == len(classes)
    sizes = Counter(fold)
    assert set(sizes) == set(range(folds))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    for name in set(classes):
        own = [sum(f == k and c == name for f, c in zip(fold, classes, strict=True)) for k in range(folds)]
        assert max(own) - min(own) <= 1


def test_no_less_evenly_than_scikit_learn_does() -> None:
    theirs = StratifiedKFold(5, shuffle=True, random_state=0).split(PLAYS, PLAYS)
    sizes = sorted(len(test) for _, test in theirs)
    assert sorted(Counter(balanced_folds(PLAYS, 5, seed=0)).values()) == sizes


def test_the_seed_alone_decides_and_order_within_a_class_is_shuffled() -> None:
    assert balanced_folds(PLAYS, 5, seed=1) == balanced_folds(PLAYS, 5, seed=1)
    assert len({tuple(balanced_folds(PLAYS, 5, seed=seed)) for seed in range(10)}) == 10
    together = sum(fold[0] == fold[1] for fold in (balanced_folds(PLAYS, 5, seed=s) for s in range(300)))
    assert pytest.approx(together, abs=25) == 300 * 2 / 14  # each of 14 others is as likely a companion


def test_too_few_items_are_refused() -> None:
    with pytest.raises(ValueError, match="2 items are not enough for 3 folds"):
        balanced_folds(["a", "b"], 3, seed=0)

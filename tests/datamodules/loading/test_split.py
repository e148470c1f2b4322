"""Stratified samples against scikit-learn's, and by their properties."""

import pytest
import torch
from sklearn.model_selection import train_test_split

from datamodules.loading.split import long_tail, split_parts, stratified_sample

TARGETS = torch.randint(0, 7, (997,), generator=torch.Generator().manual_seed(0)) ** 2


@pytest.mark.parametrize("count", [7, 50, 333, 990])
def test_classes_keep_their_shares_as_in_scikit_learn(count: int) -> None:
    sample, rest = stratified_sample(TARGETS, count, seed=0)
    assert len(sample) == count
    assert torch.equal(torch.cat([sample, rest]).sort().values, torch.arange(997))
    theirs, _ = train_test_split(TARGETS.numpy(), train_size=count, stratify=TARGETS.numpy(), random_state=0)
    difference = TARGETS[sample].bincount(minlength=37) - torch.from_numpy(theirs).bincount(minlength=37)
    assert difference.abs().max() <= 1, "only the rounding of the shares may differ"


def test_the_seed_decides_and_nothing_else() -> None:
    before = torch.get_rng_state()
    first, again = (stratified_sample(TARGETS, 100, seed=5)[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, stratified_sample(TARGETS, 100, seed=6)[0])
    assert torch.equal(before, torch.get_rng_state())


def test_the_whole_set_is_a_sample() -> None:
    sample, rest = stratified_sample(TARGETS, 997, seed=0)
    assert torch.equal(sample, torch.arange(997))
    assert len(rest) == 0


@pytest.mark.parametrize("count", [0, 6, 998])
def test_impossible_samples_are_refused(count: int) -> None:
    with pytest.raises(
        ValueError, match=f"sample of {count} is impossible: there are 997 items in 7 classes"
    ):
        stratified_sample(TARGETS, count, seed=0)


@pytest.mark.parametrize("numbers", [False, True])
def test_each_item_is_in_one_test_fold(numbers: bool) -> None:
    classes = torch.arange(103) % 4 % 3  # 52, 26 and 25 items
    targets = classes.double().unsqueeze(1) if numbers else classes
    parts = [split_parts(targets, val=11, test=40, seed=3, folds=5, fold=fold) for fold in range(5)]
    tested = torch.stack([part == 2 for part in parts])
    assert (tested.sum(0) == 1).all()
    assert tested.sum(1).tolist() == [21, 21, 21, 20, 20]
    for part in parts:
        assert (part == 1).sum() == 11
        if not numbers:
            for code, share in ((0, 0.5), (1, 0.5), (2, 0.5)):
                assert abs((classes[part == code] == 0).double().mean() - share) < 0.06
    again = split_parts(targets, val=11, test=40, seed=3, folds=5, fold=7)
    assert torch.equal(again, parts[2])
    with pytest.raises(ValueError, match="103 items are not enough for 200 folds"):
        split_parts(targets, val=1, test=1, seed=0, folds=200)


def test_a_long_tail_falls_exponentially_from_the_first_class_to_the_last() -> None:
    targets = torch.arange(5).repeat_interleave(torch.tensor([300, 200, 250, 200, 900]))
    sample = long_tail(targets, 100, seed=1)
    assert targets[sample].bincount().tolist() == [200, 63, 20, 6, 2]  # 200 · 100^(−c/4)
    assert torch.equal(sample, sample.unique())
    assert torch.equal(sample, long_tail(targets, 100, seed=1))
    assert not torch.equal(sample, long_tail(targets, 100, seed=2))
    assert long_tail(targets, 1e6, seed=0).numel() == 200 + 6 + 1 + 1 + 1
    assert targets[long_tail(targets, 1, seed=0)].bincount().tolist() == [200] * 5
    assert long_tail(torch.zeros(3, dtype=torch.int64), 10, seed=0).tolist() == [0, 1, 2]

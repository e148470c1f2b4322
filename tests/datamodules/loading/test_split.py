"""Stratified samples against scikit-learn's, and by their properties."""

import pytest
import torch
from sklearn.model_selection import train_test_split

from datamodules.loading.split import stratified_sample

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

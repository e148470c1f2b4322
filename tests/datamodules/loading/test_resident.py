"""ResidentLoader against plain indexing and PyTorch's DataLoader."""

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules.loading.resident import ResidentLoader

IMAGES = torch.arange(21 * 4, dtype=torch.uint8).view(21, 1, 2, 2)
TARGETS = torch.arange(21)


def add_noise(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    images, targets = batch
    return images + torch.rand(images.shape, generator=generator), targets


def make(**options: object) -> ResidentLoader:
    return ResidentLoader((IMAGES, TARGETS), **{"batch_size": 5, "shuffle": True, "seed": 1, **options})


def test_images_stay_with_their_targets() -> None:
    for images, targets in make():
        assert images.dtype == torch.uint8
        assert torch.equal(images, IMAGES[targets])


def test_evaluation_serves_what_a_data_loader_serves() -> None:
    theirs = DataLoader(TensorDataset(IMAGES, TARGETS), batch_size=7)
    for ours, expected in zip(make(batch_size=7, shuffle=False), theirs, strict=True):
        assert torch.equal(ours[0], expected[0])
        assert torch.equal(ours[1], expected[1])


@pytest.mark.parametrize("stop", range(1, 11))
def test_a_resumed_run_draws_the_same_augmentation(stop: int) -> None:
    def run(loader: ResidentLoader, count: int) -> list[Tensor]:
        batches: list[Tensor] = []
        while len(batches) < count:
            for images, _ in loader:
                batches.append(images)
                if len(batches) == count:
                    break
        return batches

    whole = run(make(transform=add_noise), 12)
    interrupted = make(transform=add_noise)
    before = run(interrupted, stop)
    resumed = make(transform=add_noise)
    resumed.load_state_dict(interrupted.state_dict())
    for ours, expected in zip(before + run(resumed, 12 - stop), whole, strict=True):
        assert torch.equal(ours, expected)


def test_augmentation_differs_by_epoch_batch_rank_and_seed() -> None:
    def noise(**options: object) -> list[Tensor]:
        loader = make(batch_size=3, transform=add_noise, **options)
        return [images - IMAGES[targets] for _ in range(2) for images, targets in loader if len(targets) == 3]

    drawn = noise() + noise(seed=2) + noise(world_size=2, rank=1)
    rounded = {tuple((n.flatten() * 1000).round().int().tolist()) for n in drawn}
    assert len(rounded) == len(drawn)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    list(make(transform=add_noise))
    assert torch.equal(before, torch.get_rng_state())


def test_a_second_loader_does_not_copy_what_is_in_place() -> None:
    assert make().tensors[0].data_ptr() == IMAGES.data_ptr()


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[21, 20\]"):
        ResidentLoader((IMAGES, TARGETS[1:]), batch_size=2, shuffle=True)

"""The torchvision pipeline serves the resident loader's samples, and resumes as exactly."""

from itertools import islice
from typing import Any

import pytest
import torch
from lightning import Trainer

from datamodules.configs.mnist import AugmentConfig, DigitsConfig
from datamodules.images.augment import elastic_field
from datamodules.images.classic_pipeline import ClassicLoader, SeededImages, classic_transform
from datamodules.mnist import DigitsDataModule

EVERYTHING = AugmentConfig(
    shift=1, rotation=10, scale=0.1, shear=5, flip=0.5, erase=2, elastic=0.5, elastic_sigma=1.5
)


def module(pipeline: str = "torchvision", **values: Any) -> DigitsDataModule:
    return DigitsDataModule(DigitsConfig(pipeline=pipeline, train_samples=20, batch_size=3, **values))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_both_pipelines_serve_the_same(split: str) -> None:
    classic, resident = (getattr(module(p), f"{split}_dataloader")() for p in ("torchvision", "resident"))
    assert len(classic) == len(resident)
    for _ in range(2):
        for ours, theirs in zip(classic, resident, strict=True):
            torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-5)
            assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("stop", [1, 4, 7, 9])
def test_a_resumed_run_draws_the_same_augmentation(stop: int) -> None:
    def run(loader: Any) -> Any:
        while True:
            yield from loader

    whole = list(islice(run(module(augment=EVERYTHING).train_dataloader()), 10))
    interrupted = module(augment=EVERYTHING).train_dataloader()
    before = list(islice(run(interrupted), stop))
    resumed = module(augment=EVERYTHING).train_dataloader()
    resumed.load_state_dict(interrupted.state_dict())
    for ours, expected in zip(before + list(islice(run(resumed), 10 - stop)), whole, strict=True):
        assert torch.equal(ours[0], expected[0])
        assert torch.equal(ours[1], expected[1])


def test_augmentation_differs_between_epochs_and_leaves_the_global_generator_alone() -> None:
    loader = module(augment=AugmentConfig(rotation=45)).train_dataloader()
    before = torch.get_rng_state()
    sums = [torch.cat([images for images, _ in loader]).sum((1, 2, 3)).sort().values for _ in range(2)]
    assert not torch.allclose(*sums)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_no_worker_is_without_a_batch(split: str) -> None:
    datamodule = module(num_workers=2)
    datamodule.trainer = Trainer(fast_dev_run=True, accelerator="cpu", logger=False)
    loader = getattr(datamodule, f"{split}_dataloader")()
    assert (len(loader), loader._data_loader.num_workers) == (1, 1)


@pytest.mark.slow
def test_workers_change_nothing_and_prepared_batches_do_not_count() -> None:
    turning = AugmentConfig(rotation=10)
    alone = module(augment=turning).train_dataloader()
    helped = module(augment=turning, num_workers=1).train_dataloader()
    for ours, expected in zip(islice(helped, 2), islice(alone, 2), strict=True):
        assert torch.equal(ours[0], expected[0])
    assert helped.state_dict() == alone.state_dict() == {"epoch": 0, "batch": 2}
    for ours, expected in zip(helped, alone, strict=True):  # the epoch left early is over
        assert torch.equal(ours[0], expected[0])


def test_colour_images_pass_through() -> None:
    images = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8)
    transform = classic_transform(None, (0.0,) * 3, (1.0,) * 3, height=5, width=6)
    samples = SeededImages(images, torch.arange(4), transform)
    ((served, _),) = ClassicLoader(samples, batch_size=4, shuffle=False)
    torch.testing.assert_close(served, images / 255)


def test_elastic_strength_means_the_same_in_both() -> None:
    """A ramp that is bent shows its own displacement."""
    ramp = (torch.arange(64) * 2 + 40).to(torch.uint8).expand(16, 1, 64, 64)
    config = AugmentConfig(elastic=1.5, elastic_sigma=2)
    transform = classic_transform(config, (0.0,), (1.0,), height=64, width=64)
    samples = SeededImages(ramp, torch.zeros(16), transform, seed=0)
    bent = torch.stack([samples[0, i][0] for i in range(16)]) * 255
    theirs = ((bent - ramp.float()) / 2)[..., 8:56, 8:56].std()
    ours = elastic_field(ramp, 1.5, 2, torch.Generator().manual_seed(0)).std()
    torch.testing.assert_close(theirs, ours, rtol=0.06, atol=0)


def test_a_field_too_smooth_for_the_images_is_refused() -> None:
    with pytest.raises(ValueError, match="elastic_sigma: 2 is too large for images of 8 pixels"):
        module(augment=AugmentConfig(elastic=1, elastic_sigma=2)).train_dataloader()

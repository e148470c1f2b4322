"""The classic way: a Dataset, torchvision's per-sample transforms on PIL images, and a DataLoader.

It serves the same samples in the same order as the resident loader, and resumes as exactly; it takes some
hundred times as long per sample. It is here as the yardstick, and for transforms that have no batched form.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from datamodules.configs.mnist import AugmentConfig
from datamodules.loading.epoch_loader import EpochLoader, mix_seed

_Key = tuple[int, int]
"""Epoch and index of a sample: what its random transforms are seeded by."""


def classic_transform(
    config: AugmentConfig | None, mean: Sequence[float], std: Sequence[float], *, height: int, width: int
) -> Callable[[Image.Image], Tensor]:
    """torchvision's transforms for the same changes as `augment`.

    One differs in detail: an erased square lies wholly within the frame.

    Args:
        config: What to change at random; `None` for evaluation.
        mean: Of each channel, pixels scaled to [0, 1].
        std: Of each channel, likewise.
        height: Of the images.
        width: Of the images.

    Returns:
        A function from a PIL image to a normalised tensor (C, H, W).

    Raises:
        ValueError: The elastic field is too smooth for torchvision and images of this size.
    """
    steps: list[Any] = []
    if config and config.flip:
        steps.append(transforms.RandomHorizontalFlip(config.flip))
    if config and (config.shift or config.rotation or config.scale or config.shear):
        steps.append(
            transforms.RandomAffine(
                config.rotation,
                translate=(config.shift / width, config.shift / height),
                scale=(1 - config.scale, 1 + config.scale),
                shear=config.shear,
                interpolation=transforms.InterpolationMode.BILINEAR,
            )
        )
    if config and config.elastic:
        reach, smaller = math.ceil(4 * config.elastic_sigma), min(height, width)
        if reach >= smaller:  # torchvision mirrors this many pixels at the border
            raise ValueError(
                f"elastic_sigma: {config.elastic_sigma} is too large for images of {smaller} pixels in the "
                f"torchvision pipeline, allowed is less than {smaller / 4}"
            )
        # torchvision blurs uniform noise on [-1, 1) and multiplies it by alpha; the blur leaves a standard
        # deviation of 1 / sqrt(12π)/sigma, in units of half a pixel.
        alpha = 2 * math.sqrt(12 * math.pi) * config.elastic_sigma * config.elastic
        steps.append(transforms.ElasticTransform(alpha, float(config.elastic_sigma)))
    steps.append(transforms.ToTensor())
    if config and config.erase:
        area = min(1.0, config.erase**2 / (height * width))
        steps.append(transforms.RandomErasing(p=1.0, scale=(area, area), ratio=(1, 1)))
    steps.append(transforms.Normalize(mean, std))
    return transforms.Compose(steps)


class SingleImages(Dataset[tuple[Tensor, int]]):
    """Images one by one, each through PIL and a transform, as torchvision's own data sets give them.

    Args:
        images: uint8 (N, C, H, W).
        targets: int64 (N,).
        transform: From a PIL image to a tensor.
    """

    def __init__(self, images: Tensor, targets: Tensor, transform: Callable[[Image.Image], Tensor]) -> None:
        self.pixels = images.movedim(1, -1).squeeze(-1)  # (N, H, W) or (N, H, W, C)
        self.targets = targets
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index].numpy())), int(self.targets[index])


class SeededImages(Dataset[tuple[Tensor, int]]):
    """Single images whose random transforms depend on (seed, epoch, index) alone.

    Args:
        images: The images; random numbers from torch's global generator.
        seed: Decides the random numbers; `None` where the transform takes none.
    """

    def __init__(self, images: SingleImages, *, seed: int | None = None) -> None:
        self.images = images
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: _Key) -> tuple[Tensor, int]:
        epoch, index = key
        if self.seed is None:
            return self.images[index]
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reseed the accelerators too, which the fork leaves out.
            torch.default_generator.manual_seed(mix_seed(self.seed, epoch, index))
            return self.images[index]


class ClassicLoader(EpochLoader):
    """A DataLoader whose order, shards and position are those of `EpochLoader`.

    The position counts batches that were handed out, not those that workers have prepared ahead.

    Args:
        samples: The Dataset; it is asked for (epoch, index).
        num_workers: Processes that prepare batches; 0 prepares them in this one.
        options: As of `EpochLoader`.
    """

    def __init__(self, samples: SeededImages, *, num_workers: int = 0, **options: Any) -> None:
        super().__init__(len(samples), **options)
        self._sampler = _Keys()
        self._data_loader = DataLoader(
            samples,
            batch_sampler=self._sampler,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            multiprocessing_context="spawn" if num_workers else None,
            generator=torch.Generator(),  # else each pass would draw from the global one
        )

    def _serve(self, epoch: int, first: int) -> Iterator[tuple[Tensor, ...]]:
        order = self.order(epoch).tolist()
        self._sampler.batches = [
            [(epoch, i) for i in order[self.batch_slice(index)]] for index in range(first, len(self))
        ]
        yield from map(tuple, self._data_loader)


class _Keys(Sampler[list[_Key]]):
    """The keys of the batches that are to come; read in the main process alone.

    It knows nothing of its loader: a cycle of references would leave the workers' end to the garbage
    collector, which may come in any thread and waits for them.
    """

    def __init__(self) -> None:
        self.batches: list[list[_Key]] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[_Key]]:
        return iter(self.batches)

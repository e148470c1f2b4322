"""The classic pipeline: a Dataset, torchvision's transforms on single PIL images, and a DataLoader.

It serves the same samples in the same order as the resident loader and resumes as exactly. It takes about a
hundred times as long per sample. Use it as a reference, and for transforms without a batched form.
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
"""Epoch and index of a sample, which seed its random transforms."""


def classic_transform(
    config: AugmentConfig | None, mean: Sequence[float], std: Sequence[float], *, height: int, width: int
) -> Callable[[Image.Image], Tensor]:
    """Build torchvision's transforms for the same changes as `augment`.

    One detail differs: an erased square always lies inside the image.

    Args:
        config: The random changes; `None` for evaluation.
        mean: Mean of each channel, for pixels scaled to [0, 1].
        std: Standard deviation of each channel, for the same pixels.
        height: Height of the images.
        width: Width of the images.

    Returns:
        A function from a PIL image to a normalised tensor (C, H, W).

    Raises:
        ValueError: `elastic_sigma` is too large for torchvision and images of this size.
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
        if reach >= smaller:  # torchvision reflects this many pixels at the border
            raise ValueError(
                f"elastic_sigma: {config.elastic_sigma} is too large for images of {smaller} pixels in the "
                f"torchvision pipeline, allowed is less than {smaller / 4}"
            )
        # torchvision blurs uniform noise on [-1, 1) and multiplies it by alpha. After the blur, the standard
        # deviation is 1 / (sqrt(12π) · sigma), in units of half a pixel.
        alpha = 2 * math.sqrt(12 * math.pi) * config.elastic_sigma * config.elastic
        steps.append(transforms.ElasticTransform(alpha, float(config.elastic_sigma)))
    steps.append(transforms.ToTensor())
    if config and config.erase:
        area = min(1.0, config.erase**2 / (height * width))
        steps.append(transforms.RandomErasing(p=1.0, scale=(area, area), ratio=(1, 1)))
    steps.append(transforms.Normalize(mean, std))
    return transforms.Compose(steps)


class SingleImages(Dataset[tuple[Tensor, int]]):
    """Images one by one, each passed through PIL and a transform, as in torchvision's own data sets.

    Args:
        images: uint8 (N, C, H, W).
        targets: int64 (N,).
        transform: A function from a PIL image to a tensor.
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
    """Single images with random transforms that depend only on (seed, epoch, index).

    Args:
        images: uint8 (N, C, H, W).
        targets: int64 (N,).
        transform: A function from a PIL image to a tensor; it may use torch's global generator.
        seed: Seed of the transform; `None` if it draws no random numbers.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        transform: Callable[[Image.Image], Tensor],
        *,
        seed: int | None = None,
    ) -> None:
        self.images = SingleImages(images, targets, transform)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: _Key) -> tuple[Tensor, int]:
        epoch, index = key
        if self.seed is None:
            return self.images[index]
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also seed the accelerators, which this fork does not restore.
            torch.default_generator.manual_seed(mix_seed(self.seed, epoch, index))
            return self.images[index]


class ClassicLoader(EpochLoader):
    """A DataLoader with the order, shards and position of `EpochLoader`.

    The position counts the batches that were served, not those that workers have prepared in advance.

    The arguments that are not described here are those of `EpochLoader`.

    Args:
        samples: The images, indexed by (epoch, index).
        num_workers: Number of processes that prepare batches; with 0 this process prepares them.
    """

    def __init__(
        self,
        samples: SeededImages,
        *,
        num_workers: int = 0,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        max_batches: int | None = None,
    ) -> None:
        super().__init__(
            len(samples),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
            max_batches=max_batches,
        )
        num_workers = min(num_workers, len(self))  # a worker without a batch could outlive the loader
        self._sampler = _Keys()
        self._data_loader = DataLoader(
            samples,
            batch_sampler=self._sampler,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            multiprocessing_context="spawn" if num_workers else None,
            generator=torch.Generator(),  # otherwise each epoch would draw from the global generator
        )

    def _serve(self, epoch: int, first: int) -> Iterator[tuple[Tensor, ...]]:
        order = self.order(epoch).tolist()
        self._sampler.batches = [
            [(epoch, i) for i in order[self.batch_slice(index)]] for index in range(first, len(self))
        ]
        yield from map(tuple, self._data_loader)


class _Keys(Sampler[list[_Key]]):
    """The keys of the coming batches, read only in the main process.

    It has no reference to its loader. A reference cycle would leave the end of the workers to the garbage
    collector, which may run in any thread and then waits for them.
    """

    def __init__(self) -> None:
        self.batches: list[list[_Key]] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[_Key]]:
        return iter(self.batches)

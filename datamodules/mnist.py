"""The small image sets: MNIST, Fashion-MNIST and the digits of scikit-learn."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from datamodules.assets.fetch import fetch
from datamodules.base import Part, ResidentDataModule
from datamodules.configs.mnist import (
    AugmentConfig,
    DigitsConfig,
    FashionMNISTConfig,
    ImageDataConfig,
    MNISTConfig,
)
from datamodules.images.augment import augment, normalize
from datamodules.images.idx import read_idx
from datamodules.info import ImageInfo
from datamodules.loading.epoch_loader import EpochLoader
from datamodules.loading.resident import Transform
from datamodules.loading.split import long_tail, split_parts, stratified_sample


class ImageDataModule(ResidentDataModule):
    """A labelled set of images that fits in memory, split into training, validation and test.

    The validation images are a stratified sample of the training set; only `split_seed` decides it.
    A batch is (images, targets): normalised float (B, C, H, W) and int64 (B,). With `data.views=2` it is
    (first, second, targets), two changed versions of each image, in validation and test too. It is on the
    training device (pipeline `resident`) or on the CPU (pipeline `torchvision`). `split` returns the stored
    images, uint8 (N, C, H, W) with pixels 0 … 255, and their targets.

    A subclass defines the class attributes and `read`.
    """

    class_names: ClassVar[tuple[str, ...]]
    mean: ClassVar[tuple[float, ...]]
    """Mean of each channel over all training images, with pixels scaled to [0, 1]."""
    std: ClassVar[tuple[float, ...]]
    """Standard deviation of the same values."""
    object_size: ClassVar[int]
    object_center: ClassVar[str]

    replay: Callable[[Transform], Transform] | None = None
    """Makes a faster form of the transform of training images."""

    config: ImageDataConfig
    info: ImageInfo

    def read(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return training images uint8 (N, C, H, W) and targets int64 (N,), test images and targets."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Read and split the set; a second call changes nothing.

        Raises:
            AssetError: The files can't be fetched.
            ValueError: A file is not as expected, or the split is impossible.
        """
        if self._info is not None:
            return
        config = self.config
        images, targets, test_images, test_targets = self.read()
        part = split_parts(
            targets,
            val=config.val_size,
            test=0,
            seed=config.split_seed,
            folds=config.folds,
            fold=config.fold,
        )
        train, val, test = ((part == code).nonzero().squeeze(1) for code in range(3))
        if config.folds:  # a fold of the training set replaces the test set
            test_images, test_targets = images[test], targets[test]
        if config.imbalance > 1:
            train = train[long_tail(targets[train], config.imbalance, seed=config.split_seed)]
            counts = targets[train].bincount().tolist()
            self.notes.append(f"training images of each class: {', '.join(map(str, counts))}")
        if config.train_samples:
            some, _ = stratified_sample(targets[train], config.train_samples, seed=config.split_seed)
            train = train[some]
        self._parts = {
            "train": (images[train], targets[train]),
            "val": (images[val], targets[val]),
            "test": (test_images, test_targets),
        }
        self._info = ImageInfo(
            input_shape=tuple(images.shape[1:]),
            class_names=self.class_names,
            mean=self.mean,
            std=self.std,
            object_size=self.object_size,
            object_center=self.object_center,
            views=config.views,
            train_size=len(train),
            val_size=len(val),
            test_size=len(test_images),
        )

    def normalize(self, images: Tensor) -> Tensor:
        """Normalise pixels 0 … 255, uint8 or float (B, C, H, W), to the float32 input of a model."""
        return normalize(images, self.info.mean, self.info.std)

    def transform(self, part: Part) -> Transform:
        """Return the transform that augments training images and normalises all images."""
        transform: Transform = self._augmented if part == "train" else self._as_stored
        if self.config.views == 2:
            transform = self._two_views
        return transform if part != "train" or self.replay is None else self.replay(transform)

    @property
    def drop_last(self) -> bool:
        """Whether a training epoch leaves out a smaller last batch."""
        return self.config.drop_last

    def loader(self, part: Part) -> EpochLoader:
        """Return the batches of a split; training images are shuffled and augmented."""
        return self._classic_loader(part) if self.config.pipeline == "torchvision" else super().loader(part)

    def _augmented(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        images, targets = batch
        return self.normalize(augment(images, self.config.augment, generator)), targets

    def _two_views(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        first, targets = self._augmented(batch, generator)
        second, _ = self._augmented(batch, generator)
        return first, second, targets

    def _as_stored(self, batch: tuple[Tensor, ...], _: torch.Generator) -> tuple[Tensor, ...]:
        images, targets = batch
        return self.normalize(images), targets

    def _classic_loader(self, part: Part) -> EpochLoader:
        from datamodules.images.classic_pipeline import ClassicLoader, SeededImages, classic_transform

        images, targets = self.split(part)
        changes = self.config.augment if part == "train" and self.config.augment != AugmentConfig() else None
        transform = classic_transform(
            changes, self.info.mean, self.info.std, height=images.shape[2], width=images.shape[3]
        )
        return ClassicLoader(
            SeededImages(images, targets, transform, seed=self.seed if changes else None),
            num_workers=self.config.num_workers,
            batch_size=self.batch_size(part),
            shuffle=part == "train",
            seed=self.seed,
            drop_last=part == "train" and self.drop_last,
            rank=self.rank,
            world_size=self.world_size,
            max_batches=self.max_batches(part),
        )


class MNISTDataModule(ImageDataModule):
    """MNIST: handwritten digits, 28×28 (LeCun, Cortes and Burges, 1998).

    A digit fills a box of 20×20 pixels, and its centre of mass is the centre of the image. Mean and standard
    deviation are those of the 60,000 training images.
    """

    asset: ClassVar[str] = "mnist"
    class_names = tuple("0123456789")
    mean = (0.1307,)
    std = (0.3081,)
    object_size = 20
    object_center = "mass"

    config: MNISTConfig

    def prepare_data(self) -> None:
        """Fetch the files. Lightning calls this on one process per machine.

        Raises:
            AssetError: The files can't be fetched.
        """
        fetch(self.asset, self.config.root)

    def read(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read the four IDX files."""
        folder = fetch(self.asset, self.config.root)
        parts = []
        for part, count in (("train", 60_000), ("t10k", 10_000)):
            images = read_idx(folder / f"{part}-images-idx3-ubyte", ndim=3, count=count)
            labels = read_idx(folder / f"{part}-labels-idx1-ubyte", ndim=1, count=count)
            parts += [images.unsqueeze(1), labels.long()]
        return parts[0], parts[1], parts[2], parts[3]


class FashionMNISTDataModule(MNISTDataModule):
    """Fashion-MNIST: articles of clothing in the format of MNIST (Xiao, Rasul and Vollgraf, 2017)."""

    asset = "fashion_mnist"
    class_names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    mean = (0.2860,)
    std = (0.3530,)
    object_size = 28
    object_center = "box"

    config: FashionMNISTConfig


class DigitsDataModule(ImageDataModule):
    """The 8×8 digits of scikit-learn (Alpaydin and Kaynak, 1998), which need no download.

    A pixel counts the inked points in a block of 4×4, 0 … 16; it is scaled to 0 … 255 as in the other sets.
    The test set is always the same stratified fifth.
    """

    class_names = tuple("0123456789")
    mean = (0.3053,)
    std = (0.3759,)
    object_size = 8
    object_center = "box"

    config: DigitsConfig

    def read(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read the digits from scikit-learn and split off the test set."""
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        images = (torch.from_numpy(pixels) * (255 / 16)).round().to(torch.uint8).view(-1, 1, 8, 8)
        targets = torch.from_numpy(labels).long()
        test, train = stratified_sample(targets, 360, seed=0)
        return images[train], targets[train], images[test], targets[test]

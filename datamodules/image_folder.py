"""Your own images: a folder with one subfolder for each class.

Shape letters: N images, C channels, S side of an image.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from datamodules.base import PARTS
from datamodules.configs.image_folder import ImageFolderConfig
from datamodules.images.class_folders import class_folders, find_images
from datamodules.images.photos import read_photos
from datamodules.info import ImageInfo
from datamodules.loading.resident import machine_memory
from datamodules.loading.split import split_parts, stratified_sample
from datamodules.mnist import ImageDataModule

SHOWN = 20
"""Largest number of unreadable files in a message."""


class ImageFolderDataModule(ImageDataModule):
    """Images from the files of a folder, scaled to one size, uint8 (N, C, S, S) in memory.

    Mean and standard deviation of each channel are those of the training images.
    """

    config: ImageFolderConfig  # type: ignore[assignment]

    def setup(self, stage: str | None = None) -> None:
        """Read, scale and split the images; a second call changes nothing.

        Raises:
            ValueError: A folder is missing or has no images, a file can't be read, the images don't fit into
                memory, or a class has too few images.
        """
        if self._info is not None:
            return
        config = self.config
        names = class_folders(Path(config.path))
        folders = {"train": config.path, **config.own_paths}
        found = {name: find_images(Path(path), names) for name, path in folders.items()}
        self._check_memory(sum(map(len, found.values())))
        parts = self._read(found)
        if config.color == "auto" and not any(has_colour(images) for images, _ in parts.values()):
            parts = {name: (images[:, :1].clone(), targets) for name, (images, targets) in parts.items()}
        images, targets = parts.pop("train")
        counts = {
            name: 0 if name in parts else max(len(names), round(share * len(targets)))
            for name, share in (("val", config.val_fraction), ("test", config.test_fraction))
        }
        if len(targets) - sum(counts.values()) < len(names):
            raise ValueError(
                f"{config.path}: {len(targets)} images of {len(names)} classes are too few to hold some out; "
                "add images, or set data.val_path and data.test_path"
            )
        split = split_parts(targets, **counts, seed=config.split_seed, folds=config.folds, fold=config.fold)
        drawn = {name: (images[split == code], targets[split == code]) for code, name in enumerate(PARTS)}
        self._parts = {name: parts.get(name, drawn[name]) for name in PARTS}
        for index, name in enumerate(names):
            if not (self._parts["train"][1] == index).any():
                raise ValueError(f"{config.path}: the class {name!r} has too few images to train on")
        if config.train_samples:
            targets = self._parts["train"][1]
            some, _ = stratified_sample(targets, config.train_samples, seed=config.split_seed)
            self._parts["train"] = tuple(rows[some] for rows in self._parts["train"])
        mean, std = channel_moments(self._parts["train"][0])
        self._info = ImageInfo(
            input_shape=tuple(self._parts["train"][0].shape[1:]),
            class_names=tuple(names),
            mean=mean,
            std=std,
            framing=config.fit,
            views=config.views,
            **{f"{name}_size": len(self._parts[name][1]) for name in PARTS},  # type: ignore[arg-type]
        )

    def _check_memory(self, count: int) -> None:
        side = self.config.size
        needed, available = 2 * count * 3 * side**2, machine_memory()  # twice while they are split
        if needed > available:
            raise ValueError(
                f"{count:,} images of {side}×{side} pixels need {needed / 1e9:,.1f} GB and this machine has "
                f"{available / 1e9:,.1f} GB; choose a smaller data.size"
            )

    def _read(self, found: Mapping[str, list[tuple[Path, int]]]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the images and classes of each folder, without the files that can't be read."""
        config = self.config
        shape = (1 if config.color == "grey" else 3, config.size, config.size)
        parts, faults = {}, []
        for name, files in found.items():
            images, unreadable = read_photos([path for path, _ in files], shape, fit=config.fit)
            targets = torch.tensor([target for _, target in files])
            good = torch.tensor([path not in unreadable for path, _ in files])
            parts[name] = (images, targets) if good.all() else (images[good], targets[good])
            faults += [f"{path} ({reason})" for path, reason in unreadable.items()]
            if not good.any():
                raise ValueError(f"none of the {len(files)} images can be read: {faults[-1]}")
        if faults:
            rest = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
            total = sum(map(len, found.values()))
            text = f"{len(faults)} of {total} files can't be read: {', '.join(faults[:SHOWN])}{rest}"
            if config.unreadable == "refuse":
                raise ValueError(f"{text}; remove them, or set data.unreadable=skip")
            self.notes.append(f"left out {text}")
        return parts


def has_colour(images: Tensor) -> bool:
    """Return whether the channels of any image (N, 3, H, W) differ."""
    return any(bool((some != some[:, :1]).any()) for some in images.split(1024))


def channel_moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, for pixels scaled to [0, 1].

    A channel of equal pixels has a standard deviation of 1.

    Args:
        images: uint8 (N, C, H, W).
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        share = channel.flatten().bincount(minlength=256).double() / channel.numel()
        mean = float(share @ values)
        std = float(share @ (values - mean) ** 2) ** 0.5
        means.append(mean)
        stds.append(std or 1.0)
    return tuple(means), tuple(stds)

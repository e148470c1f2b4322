"""Schemas of the small image sets; importing them imports no torch."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal


@dataclass(kw_only=True)
class AugmentConfig:
    """Random changes of the training images, drawn anew for each image each time; 0 switches one off."""

    shift: int = field(
        default=0, metadata={"help": "Move by up to this many whole pixels each way.", "min": 0, "max": 14}
    )
    rotation: float = field(
        default=0.0, metadata={"help": "Turn by up to this many degrees each way.", "min": 0, "max": 180}
    )
    scale: float = field(
        default=0.0, metadata={"help": "Grow or shrink by up to this fraction.", "min": 0, "below": 1}
    )
    shear: float = field(
        default=0.0, metadata={"help": "Slant by up to this many degrees each way.", "min": 0, "below": 90}
    )
    elastic: float = field(
        default=0.0,
        metadata={"help": "Standard deviation of the elastic displacement, in pixels.", "min": 0},
    )
    elastic_sigma: float = field(
        default=4.0,
        metadata={"help": "Smoothness of the elastic displacement, in pixels.", "min": 1, "max": 100},
    )
    flip: float = field(
        default=0.0, metadata={"help": "Probability of a left-right mirror image.", "min": 0, "max": 1}
    )
    erase: int = field(
        default=0, metadata={"help": "Side of a square blanked at a random place, in pixels.", "min": 0}
    )


@dataclass(kw_only=True)
class ImageDataConfig:
    """What the small image sets share: batches, split, pipeline and augmentation."""

    AVAILABLE: ClassVar[int] = 0
    """Labelled images from which training and validation are drawn; 0 where a subclass doesn't say."""

    batch_size: int = field(default=64, metadata={"help": "Training samples per step and device.", "min": 1})
    eval_batch_size: int = field(
        default=1000, metadata={"help": "Largest validation or test batch, per device.", "min": 1}
    )
    drop_last: bool = field(
        default=False, metadata={"help": "Leave out an epoch's last training batch if it is smaller."}
    )
    val_size: int = field(
        default=5000, metadata={"help": "Training images held out for validation, stratified.", "min": 10}
    )
    split_seed: int = field(
        default=0, metadata={"help": "Decides which they are, whatever the run's own seed.", "min": 0}
    )
    train_samples: int = field(
        default=0, metadata={"help": "Train on only this many images, stratified; 0 is all.", "min": 0}
    )
    pipeline: Literal["resident", "torchvision"] = field(
        default="resident",
        metadata={"help": "Batched tensor code on the device, or per-sample transforms and a DataLoader."},
    )
    num_workers: int = field(
        default=0,
        metadata={"help": "Processes that load samples; for the torchvision pipeline.", "min": 0},
    )
    augment: AugmentConfig = field(
        default_factory=AugmentConfig, metadata={"help": "Random changes of the training images."}
    )

    def __post_init__(self) -> None:
        if not self.AVAILABLE:
            return
        if self.val_size >= self.AVAILABLE:
            raise ValueError(
                f"val_size: {self.val_size} leaves nothing to train on, allowed is less than "
                f"the {self.AVAILABLE} training images"
            )
        left = self.AVAILABLE - self.val_size
        if self.train_samples > left:
            raise ValueError(
                f"train_samples: {self.train_samples} is more than the {left} images that "
                f"val_size {self.val_size} leaves"
            )
        if self.num_workers and self.pipeline == "resident":
            raise ValueError(
                f"num_workers: {self.num_workers} needs data.pipeline torchvision; resident uses none"
            )


@dataclass(kw_only=True)
class MNISTConfig(ImageDataConfig):
    """MNIST: 28×28 handwritten digits, 60,000 for training and validation, 10,000 for test."""

    AVAILABLE: ClassVar[int] = 60_000

    root: str = field(default="data", metadata={"help": "Folder that holds downloaded data sets."})


@dataclass(kw_only=True)
class FashionMNISTConfig(MNISTConfig):
    """Fashion-MNIST: articles of clothing in the format and sizes of MNIST."""


@dataclass(kw_only=True)
class DigitsConfig(ImageDataConfig):
    """The 8×8 digits that come with scikit-learn: 1,797, of which 360 are the test set."""

    AVAILABLE: ClassVar[int] = 1437

    val_size: int = field(
        default=180, metadata={"help": "Training images held out for validation, stratified.", "min": 10}
    )

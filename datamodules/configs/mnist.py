"""Schemas of the small image sets; importing them imports no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from datamodules.setting import setting


@dataclass(kw_only=True)
class AugmentConfig:
    """Random changes of the training images, drawn anew for each image each time; 0 switches one off."""

    shift: int = setting(0, "Move by up to this many whole pixels each way.", min=0, max=14)
    rotation: float = setting(0.0, "Turn by up to this many degrees each way.", min=0, max=180)
    scale: float = setting(0.0, "Grow or shrink by up to this fraction.", min=0, below=1)
    shear: float = setting(0.0, "Slant by up to this many degrees each way.", min=0, below=90)
    elastic: float = setting(0.0, "Standard deviation of the elastic displacement, in pixels.", min=0)
    elastic_sigma: float = setting(4.0, "Smoothness of the elastic displacement, in pixels.", min=1, max=100)
    flip: float = setting(0.0, "Probability of a left-right mirror image.", min=0, max=1)
    erase: int = setting(0, "Side of a square blanked at a random place, in pixels.", min=0)


@dataclass(kw_only=True)
class ImageDataConfig:
    """What the small image sets share: batches, split, pipeline and augmentation."""

    AVAILABLE: ClassVar[int] = 0
    """Labelled images from which training and validation are drawn; 0 where a subclass doesn't say."""

    batch_size: int = setting(64, "Training samples per step and device.", min=1)
    eval_batch_size: int = setting(
        1000, "Largest validation or test batch, per device.", min=1, evaluation="free"
    )
    drop_last: bool = setting(False, "Leave out an epoch's last training batch if it is smaller.")
    val_size: int = setting(5000, "Training images held out for validation, stratified.", min=10)
    split_seed: int = setting(
        0, "Decides which they are, whatever the run's own seed.", min=0, evaluation="same"
    )
    train_samples: int = setting(0, "Train on only this many images, stratified; 0 is all.", min=0)
    pipeline: Literal["resident", "torchvision"] = setting(
        "resident",
        "Batched tensor code on the device, or per-sample transforms and a DataLoader.",
        evaluation="free",
    )
    num_workers: int = setting(
        0,
        "Processes that load samples; for the torchvision pipeline.",
        min=0,
        resume="free",
        evaluation="free",
    )
    augment: AugmentConfig = setting(
        help="Random changes of the training images.", default_factory=AugmentConfig
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

    root: str = setting("data", "Folder that holds downloaded data sets.", resume="free", evaluation="free")


@dataclass(kw_only=True)
class FashionMNISTConfig(MNISTConfig):
    """Fashion-MNIST: articles of clothing in the format and sizes of MNIST."""


@dataclass(kw_only=True)
class DigitsConfig(ImageDataConfig):
    """The 8×8 digits that come with scikit-learn: 1,797, of which 360 are the test set."""

    AVAILABLE: ClassVar[int] = 1437

    val_size: int = setting(180, "Training images held out for validation, stratified.", min=10)

"""Schemas of the small image sets; importing them imports no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from datamodules.configs.split import FoldsConfig
from datamodules.setting import setting


@dataclass(kw_only=True)
class AugmentConfig:
    """Random changes of the training images, new for each image in each epoch; 0 switches a change off."""

    shift: int = setting(0, "Largest shift in each direction, in whole pixels.", min=0, max=14)
    rotation: float = setting(0.0, "Largest rotation in each direction, in degrees.", min=0, max=180)
    scale: float = setting(0.0, "Largest relative change of size.", min=0, below=1)
    shear: float = setting(0.0, "Largest shear in each direction, in degrees.", min=0, below=90)
    elastic: float = setting(
        0.0, "Standard deviation of the elastic displacement, in pixels.", min=0, max=100.0
    )
    elastic_sigma: float = setting(4.0, "Smoothness of the elastic displacement, in pixels.", min=1, max=100)
    flip: float = setting(0.0, "Probability of a horizontal flip.", min=0, max=1)
    erase: int = setting(
        0, "Side of a square that is erased at a random position, in pixels.", min=0, max=1000
    )


@dataclass(kw_only=True)
class ImageBatchesConfig(FoldsConfig):
    """Settings of every image set: batches, pipeline and augmentation."""

    batch_size: int = setting(64, "Number of training images per step and device.", min=1, max=1 << 20)
    eval_batch_size: int = setting(
        1000,
        "Largest number of images in a validation or test batch, per device.",
        min=1,
        evaluation="free",
        max=1 << 20,
    )
    drop_last: bool = setting(False, "Leave out the last training batch of an epoch if it is smaller.")
    split_seed: int = setting(
        0, "Seed of the validation split, independent of the seed of the run.", min=0, evaluation="same"
    )
    train_samples: int = setting(0, "Number of training images to use, stratified; 0 means all.", min=0)
    pipeline: Literal["resident", "torchvision"] = setting(
        "resident",
        "resident: batched tensor code on the device; torchvision: per-sample transforms and a DataLoader.",
        evaluation="free",
    )
    num_workers: int = setting(
        0,
        "Number of loader processes of the torchvision pipeline.",
        min=0,
        resume="free",
        evaluation="free",
        max=1024,
    )
    augment: AugmentConfig = setting(
        help="Random changes of the training images.", default_factory=AugmentConfig
    )
    views: int = setting(
        1,
        "Number of changed versions of each image in a batch. The model contrastive_encoder needs 2; then "
        "validation and test images are changed too.",
        min=1,
        max=2,
    )

    def __post_init__(self) -> None:
        if self.num_workers and self.pipeline == "resident":
            raise ValueError(
                f"num_workers: {self.num_workers} needs data.pipeline torchvision; resident has no workers"
            )
        if self.views > 1 and self.pipeline != "resident":
            raise ValueError(f"views: {self.views} needs data.pipeline resident")


@dataclass(kw_only=True)
class ImageDataConfig(ImageBatchesConfig):
    """Settings of every image set with a test set of its own."""

    AVAILABLE: ClassVar[int] = 0
    """Number of labelled images for training and validation; 0 if a subclass does not define it."""

    val_size: int = setting(5000, "Number of training images held out for validation, stratified.", min=10)
    imbalance: float = setting(
        1.0,
        "Ratio of the first class to the last class of the training split; the sizes of the classes between "
        "them fall exponentially. 1 keeps all images. Validation and test do not change.",
        min=1,
        max=1e6,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.AVAILABLE:
            return
        if self.val_size >= self.AVAILABLE:
            raise ValueError(
                f"val_size: {self.val_size} leaves nothing to train on; it must be less than "
                f"the {self.AVAILABLE} training images"
            )
        left = self.AVAILABLE - self.val_size
        if self.train_samples > left:
            raise ValueError(
                f"train_samples: {self.train_samples} is more than the {left} images that "
                f"val_size {self.val_size} leaves"
            )


@dataclass(kw_only=True)
class MNISTConfig(ImageDataConfig):
    """MNIST: 28×28 handwritten digits, 60,000 for training and validation, 10,000 for the test."""

    AVAILABLE: ClassVar[int] = 60_000

    root: str = setting(
        "data", "Folder of the downloaded data sets.", resume="free", evaluation="free", is_path=True
    )


@dataclass(kw_only=True)
class FashionMNISTConfig(MNISTConfig):
    """Fashion-MNIST: articles of clothing in the format of MNIST."""


@dataclass(kw_only=True)
class DigitsConfig(ImageDataConfig):
    """The 1,797 8×8 digits of scikit-learn; 360 of them are the test set."""

    AVAILABLE: ClassVar[int] = 1437

    val_size: int = setting(180, "Number of training images held out for validation, stratified.", min=10)

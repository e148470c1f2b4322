"""Schema of your own images; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.configs.mnist import ImageBatchesConfig
from datamodules.setting import setting


@dataclass(kw_only=True)
class ImageFolderConfig(ImageBatchesConfig):
    """Your own images: a folder with one subfolder of images for each class.

    Images are PNG, JPEG, BMP, GIF, TIFF or WebP files of any size. They are scaled once and stay in memory.
    Validation and test images come from folders of their own, or are held out of the training folder.
    """

    path: str = setting(help="Folder with a subfolder for each class.", is_path=True)
    val_path: str | None = setting(
        None,
        "Folder of the validation images, with the same subfolders; null holds out val_fraction of path.",
        is_path=True,
        evaluation="same",
    )
    test_path: str | None = setting(
        None,
        "Folder of the test images, with the same subfolders; null holds out test_fraction of path.",
        is_path=True,
    )
    val_fraction: float = setting(
        0.1, "Share of the images of path held out for validation.", above=0, below=1, evaluation="same"
    )
    test_fraction: float = setting(
        0.1, "Share of the images of path held out for the test.", above=0, below=1, evaluation="same"
    )
    size: int = setting(
        32,
        "Height and width of an image for the model, in pixels; time grows with the square.",
        min=1,
        max=1024,
    )
    fit: Literal["crop", "resize"] = setting(
        "crop",
        "crop: scale the shorter side to size and cut off the rest of the longer side; resize: scale both "
        "sides, which changes the proportions.",
    )
    color: Literal["auto", "grey", "rgb"] = setting(
        "auto", "Channels of an image. auto: grey if no image has a colour."
    )
    unreadable: Literal["refuse", "skip"] = setting(
        "refuse", "What to do if files can't be read: stop with a list of them, or leave them out."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} must leave images "
                "to train on"
            )
        if self.folds and self.test_path is not None:
            raise ValueError("test_path: with data.folds a fold of path is the test split; remove test_path")

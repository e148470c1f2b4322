"""Schema of your own images; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.configs.mnist import ImageBatchesConfig
from datamodules.configs.split import OwnFilesConfig
from datamodules.setting import setting


@dataclass(kw_only=True)
class ImageFolderConfig(ImageBatchesConfig, OwnFilesConfig):
    """Your own images: a folder with one subfolder of images for each class.

    Images are PNG, JPEG, BMP, GIF, TIFF or WebP files of any size. They are scaled once and stay in memory.
    Folders of validation and test images have the same subfolders.
    """

    path: str = setting(help="Folder with a subfolder for each class.", is_path=True)
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
        ImageBatchesConfig.__post_init__(self)
        OwnFilesConfig.__post_init__(self)

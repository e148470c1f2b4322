"""Find the images of a folder that has one subfolder for each class."""

from pathlib import Path

from datamodules.assets.ordinary_files import visible_files

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def class_folders(folder: Path) -> list[str]:
    """Return the names of the classes, which are the visible subfolders in alphabetical order.

    Raises:
        ValueError: There are fewer than two subfolders, or their names are those of splits.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    try:
        names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise ValueError(f"{folder} can't be read: {error.strerror}") from error
    if names and {name.lower() for name in names} <= _SPLITS:
        train = next((name for name in names if name.lower().startswith("train")), names[0])
        raise ValueError(
            f"{folder} has the folders {', '.join(names)}, which are splits and not classes; set "
            f"data.path={folder / train}, and data.val_path and data.test_path likewise"
        )
    if len(names) < 2:
        raise ValueError(
            f"{folder} has {len(names)} subfolders; put the images of each class in a subfolder of its own, "
            "at least two"
        )
    return names


def find_images(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Return the image files of each class with the index of the class, in the order of their paths.

    Subfolders of a class belong to it. Files with other suffixes are left out.

    Raises:
        ValueError: A class of the folder is not one of `classes`, or there is no image.
    """
    if unknown := [name for name in class_folders(folder) if name not in classes]:
        raise ValueError(
            f"{folder} has the class {unknown[0]!r}, but the training folder only {', '.join(classes[:20])}"
        )
    found = [
        (path, index)
        for index, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in sorted(visible_files(folder / name))
        if path.suffix.lower() in _SUFFIXES
    ]
    if not found:
        raise ValueError(
            f"{folder} has no images in its subfolders; known are {', '.join(sorted(_SUFFIXES))}"
        )
    return found

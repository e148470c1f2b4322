"""A folder with a subfolder for each class: its classes, its images, and what else may lie in it."""

import os
from pathlib import Path

import pytest

from datamodules.images.class_folders import class_folders, find_images


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_images_are_found_in_the_order_of_their_class_and_path(tmp_path: Path) -> None:
    names = ("dog/b.PNG", "dog/a.jpg", "cat/2/x.webp", "cat/1.gif", "cat/notes.txt", ".git/c.png", "top.png")
    for name in (*names, "cat/.hidden.png", "cat/.thumbnails/y.png"):
        touch(tmp_path / name)
    assert class_folders(tmp_path) == ["cat", "dog"]
    found = [
        (path.relative_to(tmp_path).as_posix(), index)
        for path, index in find_images(tmp_path, ["cat", "dog"])
    ]
    assert found == [("cat/1.gif", 0), ("cat/2/x.webp", 0), ("dog/a.jpg", 1), ("dog/b.PNG", 1)]


def test_links_are_followed_once_and_pipes_are_left_out(tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "images"
    touch(folder / "cat" / "b.png")
    (folder / "dog").symlink_to(elsewhere.parent)
    (folder / "cat" / "c.png").symlink_to(elsewhere)
    (folder / "cat" / "round").symlink_to(folder / "cat")
    os.mkfifo(folder / "cat" / "pipe.png")
    names = [path.relative_to(folder).as_posix() for path, _ in find_images(folder, class_folders(folder))]
    assert names == ["cat/b.png", "cat/c.png", "dog/a.png"]


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "dog" / "a.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"gone\.png is a broken link"):
        find_images(tmp_path, ["cat", "dog"])


def test_folders_of_splits_are_not_taken_for_classes(tmp_path: Path) -> None:
    for name in ("Train", "test"):
        touch(tmp_path / name / "cat" / "a.png")
    with pytest.raises(
        ValueError, match=r"Train, test, which are splits and not classes; set data\.path=.*/Train"
    ):
        class_folders(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no folder .*/gone"):
        class_folders(tmp_path / "gone")
    touch(tmp_path / "cat" / "notes.txt")
    with pytest.raises(ValueError, match=r"has 1 subfolders; put the images of each class"):
        class_folders(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match=r"has no images in its subfolders; known are \.bmp"):
        find_images(tmp_path, ["cat", "dog"])
    with pytest.raises(ValueError, match="has the class 'dog', but the training folder only cat"):
        find_images(tmp_path, ["cat"])

"""Images of one's own: splits, colours, unreadable files, and every kind of network."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.configs.image_folder import ImageFolderConfig
from datamodules.image_folder import ImageFolderDataModule

COLOURS = {"apple": (200, 40, 40), "lemon": (230, 210, 60), "plum": (90, 50, 130)}


def write(folder: Path, count: int, *, colour: bool = True, seed: int = 0) -> Path:
    """Write `count` noisy images of each of three classes, of different sizes."""
    rng = np.random.default_rng(seed)
    for name, shade in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            noise = rng.normal(0, 20, (*rng.integers(9, 20, 2), 3))
            pixels = (np.array(shade) + noise).clip(0, 255).astype(np.uint8)
            image = Image.fromarray(pixels)
            (image if colour else image.convert("L")).save(folder / name / f"{i:03}.png")
    return folder


def data(path: Path, **values: Any) -> ImageFolderDataModule:
    module = ImageFolderDataModule(ImageFolderConfig(path=str(path), **{"size": 8, **values}))
    module.setup()
    return module


def rows(module: ImageFolderDataModule, part: str) -> set[bytes]:
    return {image.numpy().tobytes() for image in module.split(part)[0]}


def test_splits_are_held_out_stratified_and_disjoint(tmp_path: Path) -> None:
    module = data(write(tmp_path, 20))
    info = module.info
    assert (info.train_size, info.val_size, info.test_size) == (48, 6, 6)
    assert info.class_names == tuple(COLOURS)
    assert info.input_shape == (3, 8, 8)
    for part, each in (("train", 16), ("val", 2), ("test", 2)):
        assert module.split(part)[1].bincount().tolist() == [each] * 3
    assert len(rows(module, "train") | rows(module, "val") | rows(module, "test")) == 60
    assert rows(data(tmp_path, split_seed=1), "val") != rows(module, "val") == rows(data(tmp_path), "val")


def test_validation_and_test_may_have_folders_of_their_own(tmp_path: Path) -> None:
    train = write(tmp_path / "train", 10)
    test = write(tmp_path / "test", 3, seed=1)
    (test / "plum" / "001.png").unlink()
    module = data(train, test_path=str(test))
    assert (module.info.train_size, module.info.val_size, module.info.test_size) == (27, 3, 8)
    assert module.split("test")[1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    both = data(train, val_path=str(test), test_path=str(test))
    assert (both.info.train_size, both.info.val_size, both.info.test_size) == (30, 8, 8)
    assert rows(both, "val") == rows(module, "test")


def test_batches_are_normalised_by_the_training_images(tmp_path: Path) -> None:
    module = data(write(tmp_path, 20))
    stored = module.split("train")[0].double() / 255
    torch.testing.assert_close(torch.tensor(module.info.mean).double(), stored.mean((0, 2, 3)))
    torch.testing.assert_close(torch.tensor(module.info.std).double(), stored.std((0, 2, 3), correction=0))
    images = torch.cat([images for images, _ in module.train_dataloader()])
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=1e-2, rtol=0)


def test_both_pipelines_serve_the_same_colours(tmp_path: Path) -> None:
    write(tmp_path, 8)
    both = (data(tmp_path, pipeline=pipeline).train_dataloader() for pipeline in ("resident", "torchvision"))
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-5)
        assert torch.equal(ours[1], theirs[1])


def test_grey_files_give_one_channel_unless_there_is_colour(tmp_path: Path) -> None:
    grey = write(tmp_path / "grey", 4, colour=False)
    assert data(grey).info.input_shape == (1, 8, 8)
    assert data(grey, color="rgb").info.input_shape == (3, 8, 8)
    one = data(grey, color="rgb").split("train")[0]
    assert torch.equal(one[:, :1], data(grey).split("train")[0])
    colour = write(tmp_path / "colour", 4)
    assert data(colour, color="grey").info.input_shape == (1, 8, 8)
    assert data(grey, test_path=str(colour)).info.input_shape == (3, 8, 8)


def test_all_unreadable_files_are_listed_or_left_out(tmp_path: Path) -> None:
    write(tmp_path, 20)
    bad = [tmp_path / "apple" / "003.png", tmp_path / "plum" / "011.png"]
    bad[0].write_text("no picture")
    bad[1].write_bytes(bad[1].read_bytes()[:40])
    expected = rf"2 of 60 files can't be read: {bad[0]} \(not an image.*\), {bad[1]} \(.*\)"
    with pytest.raises(ValueError, match=f"{expected}; remove them, or set data.unreadable=skip"):
        data(tmp_path)
    module = data(tmp_path, unreadable="skip")
    assert sum((module.info.train_size, module.info.val_size, module.info.test_size)) == 58
    assert module.notes[0].startswith("left out 2 of 60 files")
    for name in COLOURS:
        for path in (tmp_path / name).iterdir():
            path.write_text("no picture")
    with pytest.raises(ValueError, match="none of the 60 images can be read"):
        data(tmp_path, unreadable="skip")


def test_a_long_list_of_unreadable_files_is_cut(tmp_path: Path) -> None:
    write(tmp_path, 20)
    for path in (tmp_path / "apple").iterdir():
        path.write_text("no picture")
    for path in sorted((tmp_path / "plum").iterdir())[:3]:
        path.write_text("no picture")
    with pytest.raises(ValueError, match=r"23 of 60 files .* and 3 more; remove them"):
        data(tmp_path)


def test_too_few_images_and_too_little_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 2)
    (tmp_path / "plum" / "000.png").unlink()
    with pytest.raises(ValueError, match="5 images of 3 classes are too few"):
        data(tmp_path)
    for part in ("val", "test"):
        write(tmp_path / part, 1)
    (tmp_path / "train" / "plum").mkdir(parents=True)
    write(tmp_path / "train", 4)
    for path in (tmp_path / "train" / "plum").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="the class 'plum' has too few images to train on"):
        data(tmp_path / "train", val_path=str(tmp_path / "val"), test_path=str(tmp_path / "test"))
    for part in ("train", "val", "test"):
        shutil.rmtree(tmp_path / part)
    monkeypatch.setattr("datamodules.image_folder.machine_memory", lambda: 1000.0)
    with pytest.raises(ValueError, match=r"5 images of 8×8 pixels need .* choose a smaller data\.size"):
        data(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        {"name": "mlp", "hidden": [16]},
        {"name": "classic_cnn"},
        {"name": "residual_cnn", "widths": [8, 8], "blocks": [0, 1]},
        {"name": "vision_transformer", "width": 16, "depth": 1, "num_heads": 2, "patch_size": 8},
    ],
    ids=lambda model: model["name"],
)
def test_every_network_learns_from_colour_with_its_dashboard(model: dict[str, Any], tmp_path: Path) -> None:
    import experiments

    settings = {
        "model": model,
        "data": {
            "name": "image_folder",
            "path": str(write(tmp_path / "fruit", 20)),
            "size": 16,
            "batch_size": 8,
        },
        "optimizer": {"name": "adamw", "lr": 0.01},
        "trainer": {"max_epochs": 4, "accelerator": "cpu", "progress_bar": False},
        "run_dir": str(tmp_path / "run"),
    }
    result = experiments.run(settings)
    assert result.metrics["test/accuracy"] > 0.8
    assert (tmp_path / "run" / "test_confusion.csv").exists()


def test_folds_take_the_place_of_the_test_split(tmp_path: Path) -> None:
    write(tmp_path, 10)
    folds = [data(tmp_path, folds=3, fold=fold) for fold in range(3)]
    assert set.union(*(rows(module, "test") for module in folds)) == {
        row for part in ("train", "val", "test") for row in rows(folds[0], part)
    }
    assert [module.info.test_size for module in folds] == [10, 10, 10]
    with pytest.raises(ValueError, match="a fold of path is the test split; remove test_path"):
        ImageFolderConfig(path="x", test_path="y", folds=3)

"""Pictures of digits are recognised, whatever their size and whichever way round they are."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import experiments
from datamodules.configs.mnist import DigitsConfig
from datamodules.info import DataInfo
from datamodules.mnist import DigitsDataModule
from experiments.errors import UserError
from experiments.predict.__main__ import main, predict
from experiments.predict.images import classify
from experiments.predict.prediction import percent
from experiments.training.build import Restored, restore
from experiments.training.checkpoint_path import open_checkpoint


def load_model(checkpoint: Path) -> Restored:
    path, saved = open_checkpoint(checkpoint)
    return restore(saved, path)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {
        "model": {"name": "mlp", "hidden": [64]},
        "data": {"name": "digits"},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "dashboard": False, "progress_bar": False},
        "run_dir": str(tmp_path_factory.mktemp("runs") / "mlp"),
    }
    return experiments.run(settings).run_dir


@pytest.fixture(scope="module")
def digits() -> DigitsDataModule:
    data = DigitsDataModule(DigitsConfig())
    data.setup()
    return data


def draw(path: Path, image: torch.Tensor, *, size: int, dark_on_light: bool) -> Path:
    """An enlarged digit (1, 8, 8) in the middle of a page twice as wide, saved as the suffix says."""
    large = Image.fromarray(image[0].numpy()).resize((size, size), Image.Resampling.BICUBIC)
    page = np.zeros((size + 40, 2 * size), dtype=np.uint8)
    page[20 : 20 + size, size // 2 : size // 2 + size] = np.asarray(large)
    Image.fromarray(255 - page if dark_on_light else page).save(path)
    return path


@pytest.mark.parametrize(("suffix", "dark_on_light", "size"), [("png", False, 61), ("jpg", True, 160)])
def test_drawn_digits_are_recognised(
    run_dir: Path, digits: DigitsDataModule, tmp_path: Path, suffix: str, dark_on_light: bool, size: int
) -> None:
    images, targets = (part[:40] for part in digits.split("test"))
    classifier = load_model(run_dir)
    right = 0
    for i, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        path = draw(tmp_path / f"{i}.{suffix}", image, size=size, dark_on_light=dark_on_light)
        probabilities = classify(classifier, path)
        assert sum(probabilities.values()) == pytest.approx(1)
        assert list(probabilities.values()) == sorted(probabilities.values(), reverse=True)
        right += next(iter(probabilities)) == str(target)
    with torch.inference_mode():
        direct = (classifier.module(digits.normalize(images)).argmax(dim=1) == targets).sum().item()
    assert direct > 32
    assert right >= direct - 6


def test_both_ways_round_are_the_same_picture(
    run_dir: Path, digits: DigitsDataModule, tmp_path: Path
) -> None:
    classifier = load_model(run_dir / "checkpoints" / "best.ckpt")
    image = digits.split("test")[0][3]
    light, dark = (
        classify(classifier, draw(tmp_path / f"{dark}.png", image, size=99, dark_on_light=dark))
        for dark in (False, True)
    )
    assert light == pytest.approx(dark)


def test_lines_and_json_say_the_same(
    run_dir: Path, digits: DigitsDataModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = digits.split("test")[0]
    paths = [
        str(draw(tmp_path / f"{i}.png", images[i], size=40, dark_on_light=bool(i % 2))) for i in range(3)
    ]
    assert main([str(run_dir), *paths]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main([str(run_dir), "--json", *paths]) == 0
    records = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [record["image"] for record in records] == paths
    for text, record in zip(lines, records, strict=True):
        ranked = list(record["probabilities"].items())
        assert len(ranked) == 10
        (a, p), (b, q), (c, r) = ranked[:3]
        p, q, r = map(percent, (p, q, r))
        assert text == f"{record['image']}: {a} {p}  (then {b} {q}, {c} {r})"


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.0, "0.0%"), (1e-5, "<0.1%"), (0.5, "50.0%"), (0.9994, "99.9%"), (0.99985, ">99.9%"), (1.0, "100.0%")],
)
def test_only_certainty_is_shown_as_certainty(probability: float, text: str) -> None:
    assert percent(probability) == text


def test_a_bad_picture_is_named_and_the_others_are_classified(
    run_dir: Path, digits: DigitsDataModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = draw(tmp_path / "good.png", digits.split("test")[0][0], size=40, dark_on_light=True)
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    Image.new("L", (20, 20), 255).save(tmp_path / "blank.png")
    bad = [str(tmp_path / name) for name in ("missing.png", "text.png", "cut.png", "blank.png", "")]
    assert main([str(run_dir), *bad[:2], str(good), *bad[2:]]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{good}: ")
    assert printed.out.count("\n") == 1
    errors = printed.err.splitlines()
    assert len(errors) == len(bad)
    for path, error in zip(bad, errors, strict=True):
        assert error.startswith(f"error: {path}: ")


def test_a_model_of_another_kind_of_data_is_refused() -> None:
    experiment = SimpleNamespace(model=SimpleNamespace(name="own"))
    model: Any = SimpleNamespace(info=DataInfo(), experiment=experiment)
    with pytest.raises(
        UserError, match=r"own was trained on data of the kind 'other'; predict takes models of"
    ):
        predict(model, ["a.png"])


def test_a_photo_is_framed_as_the_training_images_were(tmp_path: Path) -> None:
    colours = {"apple": (200, 40, 40), "lemon": (230, 210, 60)}
    for name, colour in colours.items():
        (tmp_path / "fruit" / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (20 + i, 20), colour).save(tmp_path / "fruit" / name / f"{i}.png")
    settings = {
        "model": {"name": "mlp", "hidden": []},
        "data": {"name": "image_folder", "path": str(tmp_path / "fruit"), "size": 8, "batch_size": 4},
        "optimizer": {"name": "adamw", "lr": 0.05},
        "trainer": {"max_epochs": 3, "accelerator": "cpu", "dashboard": False, "progress_bar": False},
        "run_dir": str(tmp_path / "run"),
    }
    experiments.run(settings)
    classifier = load_model(tmp_path / "run")
    for name, colour in colours.items():
        Image.new("RGB", (70, 50), colour).save(tmp_path / "photo.jpg")
        assert next(iter(classify(classifier, tmp_path / "photo.jpg"))) == name


@pytest.mark.parametrize("option", ["--n-best", "--beam-size"])
def test_options_of_words_are_refused(run_dir: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_dir), "a.png", option, "2"]) == 2
    assert f"{option} is an option for words, but this model takes images" in capsys.readouterr().err

"""Table rows are answered as the trained model answers its own rows, from files and standard input."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import experiments
from datamodules.configs.table import TableConfig
from datamodules.table import TableDataModule
from experiments.predict.__main__ import main
from experiments.training.build import restore
from experiments.training.checkpoint_path import open_checkpoint

TRAINER = {"max_epochs": 3, "accelerator": "cpu", "precision": "32-true", "dashboard": False}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of two features, a class and a number, with some empty cells."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("tables") / "flats.csv"
    lines = ["id,size,year,rent,place"]
    for i in range(80):
        size, year = rng.normal(70, 20), rng.integers(1900, 2020)
        cell = "" if i % 9 == 0 else f"{size:.1f}"
        lines.append(f"{i},{cell},{year},{9 * size + year:.0f},{'in' if year > 1960 else 'out'}")
    path.write_text("\n".join(lines) + "\n")
    return path


def fit(table: Path, run_dir: Path, model: dict[str, Any], **data: Any) -> Path:
    settings = {
        "model": model,
        "data": {"name": "table", "path": str(table), "missing": "mean", "batch_size": 16, **data},
        "optimizer": {"name": "adamw", "lr": 0.05},
        "trainer": {**TRAINER, "progress_bar": False},
        "run_dir": str(run_dir),
    }
    return experiments.run(settings).run_dir


@pytest.fixture(scope="module")
def place(table: Path) -> Path:
    return fit(table, table.parent / "place", {"name": "table_classifier"}, ignore=["id", "rent"])


@pytest.fixture(scope="module")
def rent(table: Path) -> Path:
    model = {"name": "table_regression", "hidden": [8], "normalize_targets": True}
    return fit(table, table.parent / "rent", model, target="rent", columns=["size", "year"])


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_probabilities_are_those_of_the_model(
    place: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = answered(capsys, str(place), str(table))
    assert [record["row"] for record in records] == list(range(1, 81))
    data = TableDataModule(TableConfig(path=str(table), missing="mean", ignore=["id", "rent"]))
    path, saved = open_checkpoint(place)
    module = restore(saved, path).module
    with torch.inference_mode():
        expected = torch.cat(
            [module(data.split(name)[0]).softmax(1)[:, 0] for name in ("train", "val", "test")]
        )
    found = [record["probabilities"]["in"] for record in records]
    np.testing.assert_allclose(sorted(found), sorted(expected.tolist()), rtol=1e-4)
    years = [int(line["year"]) for line in csv.DictReader(table.read_text().splitlines())]
    right = sum((p > 0.5) == (year > 1960) for p, year in zip(found, years, strict=True))
    assert right > 60


def test_columns_are_found_by_name_and_standard_input_is_read(
    rent: Path, table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answered(capsys, str(rent), str(table))[:3]
    rows = list(csv.DictReader(table.read_text().splitlines()))[:3]
    turned = "year,more,size\n" + "".join(f"{row['year']},x,{row['size']}\n" for row in rows)
    monkeypatch.setattr("sys.stdin", io.StringIO(turned))
    assert main([str(rent), "-", "--csv"]) == 0
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["row"] for row in found] == ["1", "2", "3"]
    for row, record in zip(found, whole, strict=True):
        assert float(row["rent"]) == pytest.approx(record["rent"])
    assert abs(whole[1]["rent"] - 2600) < 600


def test_without_names_the_columns_are_those_of_training_in_order(
    rent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("70,1950\n80,1990\n")
    (tmp_path / "b.csv").write_text("size,year\n70,1950\n80,1990\n")
    records = answered(capsys, str(rent), str(tmp_path / "a.csv"), str(tmp_path / "b.csv"))
    assert [Path(record.pop("file")).name for record in records] == ["a.csv", "a.csv", "b.csv", "b.csv"]
    assert records[:2] == records[2:]


def test_a_bad_row_is_named_and_the_others_are_answered(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("size,year\n70,old\n,1990\n60,1999\n60,1e300\n")
    assert main([str(place), str(tmp_path / "a.csv"), "--csv"]) == 1
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [row["row"] for row in rows] == ["2", "3"]  # a missing size is the mean, as in training
    assert set(rows[0]) == {"row", "class", "probability"}
    assert "line 2, column 'year': 'old' is not a finite number" in printed.err
    assert "line 5: the model's answer overflows; is a value too large?" in printed.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size,age\n1,2\n", "the model reads 2 columns; the file lacks year"),
        ("1,2,3\n4,5,6\n", "the file lacks size, year"),
        ("", "is empty"),
        (None, "no such file; expected a CSV or Parquet file"),
    ],
)
def test_a_file_that_does_not_fit_is_named(
    place: Path, tmp_path: Path, text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "a.csv").write_text(text)
    assert main([str(place), str(tmp_path / "a.csv")]) == 1
    assert message in capsys.readouterr().err


def test_a_steering_model_answers_rows_of_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {
        "model": {"name": "steering"},
        "data": {"name": "steering_pairs", "width": 8, "size": 200, "val_size": 20, "test_size": 20},
        "trainer": {**TRAINER, "max_epochs": 1, "progress_bar": False},
        "run_dir": str(tmp_path / "run"),
    }
    result = experiments.run(settings)
    assert result.module is not None
    (width,) = result.module.info.input_shape  # type: ignore[union-attr]
    rows = torch.randn(3, width)
    np.savetxt(tmp_path / "states.csv", rows.numpy(), delimiter=",")
    records = answered(capsys, str(tmp_path / "run"), str(tmp_path / "states.csv"))
    found = torch.tensor([[record[f"z{i + 1}"] for i in range(width)] for record in records])
    with torch.inference_mode():
        torch.testing.assert_close(found, result.module(rows), rtol=1e-4, atol=1e-5)

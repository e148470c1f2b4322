"""Parquet files give the same table as CSV files."""

import importlib.util
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from datamodules.configs.table import TableConfig
from datamodules.tables.cells import read_cells
from datamodules.tables.table_file import read_table

COLUMNS = {
    "age": [1, None, 3],
    "size": [0.1, 2.5e-300, float("nan")],
    "new": [True, False, None],
    "kind": ["dog", "cat", "dog"],
}


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_values_keep_their_bits_and_nothing_is_missing(tmp_path: Path) -> None:
    cells = read_cells(write(tmp_path / "t.parquet", COLUMNS))
    assert cells.names == list(COLUMNS)
    assert [line.cells for line in cells.lines] == [
        ["1", "0.1", "1", "dog"],
        ["", "2.5e-300", "0", "cat"],
        ["3", "nan", "", "dog"],
    ]


def test_it_is_the_same_table_as_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("age,size,new,kind\n1,0.1,1,dog\n,2.5e-300,0,cat\n3,,,dog\n")
    both = [
        read_table(path, TableConfig(missing="mean"))
        for path in (write(tmp_path / "t.pq", COLUMNS), tmp_path / "t.csv")
    ]
    assert both[0].feature_names == both[1].feature_names
    assert both[0].class_names == ("cat", "dog")
    assert both[0].features.nan_to_num(nan=-7).tolist() == both[1].features.nan_to_num(nan=-7).tolist()


def test_what_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "t.parquet", COLUMNS)
    with pytest.raises(ValueError, match=r"t\.parquet, row 2, column 'age': the value is missing"):
        read_table(path, TableConfig())
    with pytest.raises(ValueError, match=r"none in column 'when' \('2020-01-01.*', …\)"):
        read_table(write(path, {"when": ["2020-01-01"], "y": [1]}), TableConfig())
    with pytest.raises(ValueError, match="has a header but no rows"):
        read_cells(write(path, {"x": []}))
    path.write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(ValueError, match=r"t\.parquet is not a Parquet file: "):
        read_cells(path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package pyarrow; run `pip install pyarrow`"):
        read_cells(path)

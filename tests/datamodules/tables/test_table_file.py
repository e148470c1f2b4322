"""Files of tables: what is read, and the line and column of what is wrong."""

import math
from pathlib import Path
from typing import Any

import pytest

from datamodules.configs.table import TableConfig
from datamodules.tables.table_file import read_table
from datamodules.tables.table_rows import TableRows


def read(tmp_path: Path, text: str | bytes, **settings: Any) -> TableRows:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(path, TableConfig(**settings))


def test_a_header_words_and_quotes(tmp_path: Path) -> None:
    rows = read(tmp_path, '\ufeffage,"size, cm",kind\n1,2.5,dog\n\n-3,1e2,cat\n4,0,dog\n')
    assert rows.feature_names == ("age", "size, cm")
    assert rows.features.tolist() == [[1, 2.5], [-3, 100], [4, 0]]
    assert rows.class_names == ("cat", "dog")
    assert rows.targets.tolist() == [1, 0, 1]


def test_no_header_and_the_target_by_number(tmp_path: Path) -> None:
    rows = read(tmp_path, "0.5;1;2\n0.25;3;4\n", delimiter=";", target=1)
    assert (rows.feature_names, rows.target_names) == (("2", "3"), ("1",))
    assert rows.targets.tolist() == [[0.5], [0.25]]
    assert rows.class_names == ()
    # A header of numbers has to be declared.
    assert read(tmp_path, "2023,2024\n1.5,2.5\n3,4\n", header=True).target_names == ("2024",)


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (["0", "1", "1.0", "0"], ("0", "1")),
        (["10", "9", "9", "10"], ("9", "10")),
        (["0.5", "1", "1", "0"], ()),
        (["a", "1", "2", "a"], ("1", "2", "a")),
    ],
)
def test_whether_the_target_is_a_class(tmp_path: Path, target: list[str], classes: tuple[str, ...]) -> None:
    text = "x,y\n" + "".join(f"1,{word}\n" for word in target)
    assert read(tmp_path, text).class_names == classes
    if "a" not in target:
        assert read(tmp_path, text, task="numbers").targets.flatten().tolist() == [float(w) for w in target]
    assert len(read(tmp_path, text, task="classes").class_names) == len(
        {float(w) if w != "a" else w for w in target}
    )


def test_more_than_twenty_whole_numbers_are_numbers(tmp_path: Path) -> None:
    assert read(tmp_path, "x,y\n" + "".join(f"1,{i}\n" for i in range(20))).class_names
    assert not read(tmp_path, "x,y\n" + "".join(f"1,{i}\n" for i in range(21))).class_names


def test_missing_cells_become_nan_if_asked(tmp_path: Path) -> None:
    rows = read(tmp_path, "x,z,y\n1,?,0\n, 2,1\nNA,3,1\n", missing="mean")
    assert [[math.isnan(v) for v in row] for row in rows.features.tolist()] == [[0, 1], [1, 0], [1, 0]]


def test_lines_with_missing_cells_are_dropped_if_asked(tmp_path: Path) -> None:
    text = "x,z,w,y\n1,?,0,0\n2,5,,1\nNA,3,4,1\n6,7,8,\n9,10,?,11\n"
    rows = read(tmp_path, text, missing="drop", columns=["x", "z"])
    assert rows.features.tolist() == [[2, 5], [9, 10]]  # a missing cell of w does not count
    assert rows.targets.tolist() == [0, 1]


def test_columns_are_chosen(tmp_path: Path) -> None:
    rows = read(tmp_path, "id,name,b,a,y\n1,tom,3,4,0\n2,ann,5,6,1\n", columns=["a", "b"])
    assert rows.feature_names == ("b", "a")  # in the order of the file
    assert rows.features.tolist() == [[3, 4], [5, 6]]
    both = read(tmp_path, "id,b,a,y\n1,3,4,0\n2,5,6,1\n", columns=["a", "b"], ignore=["b"])
    assert both.feature_names == ("a",)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("x,y\n1,2\n,3\n", {}, r"t\.csv, line 3, column 'x': the value is missing.*data\.missing=mean"),
        ("x,y\n1,2\n\nred,3\n", {}, r"line 4, column 'x': 'red' is not a finite number.*data\.ignore=\[x\]"),
        ("x,y\n1,2\ninf,3\n", {}, "line 3, column 'x': 'inf' is not a finite number"),
        ("x,y\n1,2\n1_0,2\n", {}, "line 3, column 'x': '1_0' is not"),
        (
            "id,note,x,hue,y\n1,a,2,,0\n2,b,,red,1\n",
            {"ignore": ["id"], "missing": "mean"},
            r"none in column 'note' \('a', …\), 'hue' \('red', …\); .* data\.ignore=\[id,note,hue\]",
        ),
        ("1,2\n3,red\n4,5\n", {"task": "numbers"}, "line 2, column '2': 'red' is not"),
        ("x,y\n1,\n2,3\n", {}, r"line 2: the target 'y' is missing; .* data\.missing=drop"),
        ("x,y\n,1\n2,?\n", {"missing": "drop"}, "every line has a missing value"),
        ("x,y\n1,2\n3\n", {}, "line 3 has 1 cells; expected 2"),
        ("x,y\n1,2\n", {"target": "z"}, r"data\.target = 'z': .* has no such column; it has x, y"),
        ("x,y\n1,2\n", {"target": 3}, r"data\.target = 3: .* no such column"),
        ("x,y\n1,2\n", {"ignore": ["q"]}, r"data\.ignore = 'q'"),
        ("x,y\n1,2\n", {"columns": ["q"]}, r"data\.columns = 'q': .* has no such column; it has x, y"),
        ("x,y\n1,2\n", {"columns": ["y"]}, r"data\.columns names the target column 'y'"),
        ("x,y\n1,2\n", {"ignore": ["y"]}, "names the target column 'y'"),
        ("x;y\n1;2\n3;4\n", {}, "no column beside the target.*check data.delimiter"),
        ("x,x\n1,2\n", {}, "two columns are named 'x'"),
        ("x,y\n", {}, "a header but no rows"),
        ("\n \n", {}, "is empty"),
        ("x,y\n1,a\n2,a\n", {}, "all rows have the class 'a'"),
        (b"x,y\n\xff\xfe,1\n", {}, "not a CSV file in UTF-8"),
        (b"x,y\n" + b"1" * 140_000 + b",1\n", {}, "not a CSV file in UTF-8: field larger"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, text: str | bytes, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text, **settings)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*none, and no table of that name"):
        read_table(tmp_path / "none", TableConfig())

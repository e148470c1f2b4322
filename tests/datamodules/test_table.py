"""The split and the standardisation of tables."""

from pathlib import Path

import pytest
import torch

from datamodules.configs.table import TableConfig
from datamodules.table import TableDataModule, moments


def test_classes_keep_their_shares_and_no_row_is_in_two_splits() -> None:
    data = TableDataModule(TableConfig(standardize=False))
    parts = {name: data.split(name) for name in ("train", "val", "test")}
    assert [len(rows) for rows, _ in parts.values()] == [341, 114, 114]
    for _, targets in parts.values():
        assert targets.float().mean().item() == pytest.approx(357 / 569, abs=0.005)
    every = torch.cat([rows for rows, _ in parts.values()])
    assert len(every.unique(dim=0)) == 569
    assert (data.info.train_size, data.info.val_size, data.info.test_size) == (341, 114, 114)


def test_standardisation_is_fitted_on_the_training_rows_alone() -> None:
    data = TableDataModule(TableConfig())
    raw = TableDataModule(TableConfig(standardize=False)).split("train")[0].double()
    train, test = data.split("train")[0], data.split("test")[0]
    torch.testing.assert_close(train.mean(0), torch.zeros(30), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(0, correction=0), torch.ones(30), atol=1e-5, rtol=0)
    assert test.mean(0).abs().max() > 0.05
    torch.testing.assert_close(torch.tensor(data.info.mean).double(), raw.mean(0), rtol=1e-4, atol=1e-6)


def test_missing_values_and_constant_columns(tmp_path: Path) -> None:
    lines = "".join(f"{i if i % 3 else ''},7,{i % 2}\n" for i in range(60))
    (tmp_path / "t.csv").write_text("x,c,y\n" + lines)
    data = TableDataModule(TableConfig(path=str(tmp_path / "t.csv"), missing="mean"))
    for name in ("train", "val", "test"):
        rows, _ = data.split(name)
        assert rows.isfinite().all()
        assert torch.equal(rows[:, 1], torch.zeros(len(rows)))
    assert (data.split("train")[0][:, 0] == 0).any()


@pytest.mark.parametrize(("column", "value"), [("x", "1e200"), ("x", "1e308"), ("y", "1e39")])
def test_a_value_that_overflows_is_refused_by_its_column(tmp_path: Path, column: str, value: str) -> None:
    cells = {"x": "1", "y": "0.5", column: value}
    lines = "".join(f"{i},{i / 10}\n" for i in range(20))
    (tmp_path / "t.csv").write_text("x,y\n" + f"{cells['x']},{cells['y']}\n" * 9 + lines)
    with pytest.raises(ValueError, match=rf"t\.csv, column '{column}': a value is too large"):
        TableDataModule(TableConfig(path=str(tmp_path / "t.csv"), task="numbers")).setup()


def test_real_targets_are_split_by_the_split_seed() -> None:
    splits = [TableDataModule(TableConfig(path="diabetes", split_seed=s)).split("test") for s in (0, 0, 1)]
    assert torch.equal(splits[0][1], splits[1][1])
    assert not torch.equal(splits[0][1], splits[2][1])
    assert splits[0][1].shape == (88, 1)


def test_moments_leave_out_nan() -> None:
    nan = float("nan")
    mean, std = moments(torch.tensor([[1.0, nan, 2.0], [3.0, nan, nan]]))
    assert mean.tolist() == [2, 0, 2]
    assert std.tolist() == [1, 1, 1]


def test_too_few_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,0.5\n2,0.25\n3,1\n")
    with pytest.raises(ValueError, match="has 3 rows, too few for three splits"):
        TableDataModule(TableConfig(path=str(tmp_path / "t.csv"))).setup()
    with pytest.raises(ValueError, match="leave no training data"):
        TableConfig(val_fraction=0.5, test_fraction=0.5)
    with pytest.raises(ValueError, match="one character"):
        TableConfig(delimiter=", ")


@pytest.mark.parametrize("path", ["wine", "diabetes"])
def test_each_row_is_tested_in_one_fold(path: str) -> None:
    folds = [TableDataModule(TableConfig(path=path, standardize=False, folds=3, fold=k)) for k in range(3)]
    tested = torch.cat([data.split("test")[0] for data in folds])
    everything = TableDataModule(TableConfig(path=path, standardize=False))
    whole = torch.cat([everything.split(name)[0] for name in ("train", "val", "test")])
    assert torch.equal(tested.unique(dim=0), whole.unique(dim=0))
    assert len(tested) == len(whole)
    with pytest.raises(ValueError, match=r"line has splits of its own"):
        TableDataModule(TableConfig(path="line", folds=3)).setup()

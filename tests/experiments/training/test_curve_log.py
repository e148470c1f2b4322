"""The curve's file holds every value once, whatever ended the process that wrote it."""

import csv
import math
from pathlib import Path

import pytest

from experiments.errors import RunError
from experiments.training.curve_file import CURVE_HEADER, read_curve_rows
from experiments.training.curve_log import CurveLog


def test_each_value_is_a_row_that_reads_back_to_the_bit(work: Path) -> None:
    log = CurveLog(work / "metrics.csv")
    value = 0.1 + 0.2
    log.log_metrics({"train/loss": value, "val/a,b": math.inf, "epoch": 3}, step=7)
    log.log_metrics({"train/loss": float("nan")}, step=8)
    log.finalize("success")
    with (work / "metrics.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(CURVE_HEADER)
    assert rows[1:] == [
        ["7", "3", "train/loss", repr(value)],
        ["7", "3", "val/a,b", "inf"],
        ["8", "", "train/loss", "nan"],
    ]
    assert float(rows[1][3]) == value


def test_values_are_on_disk_at_once_and_a_closed_log_goes_on(work: Path) -> None:
    path = work / "metrics.csv"
    log = CurveLog(path)
    log.log_metrics({"a": 1.0}, step=1)
    assert len(read_curve_rows(path)) == 1
    log.finalize("success")
    log.log_metrics({"a": 2.0}, step=2)
    log.finalize("success")
    assert [row[0] for row in read_curve_rows(path)] == ["1", "2"]


def test_a_resumed_log_drops_what_comes_again_and_the_tests_of_an_earlier_end(work: Path) -> None:
    path = work / "metrics.csv"
    log = CurveLog(path)
    for step in (1, 2, 3):
        log.log_metrics({"train/loss": float(step), "epoch": 0}, step=step)
    log.log_metrics({"test/loss": 9.0, "epoch": 1}, step=2)
    log.finalize("failed")
    resumed = CurveLog(path, resumed_step=2)
    resumed.log_metrics({"train/loss": 30.0, "epoch": 0}, step=3)
    resumed.finalize("success")
    assert [(row[0], row[2], row[3]) for row in read_curve_rows(path)] == [
        ("1", "train/loss", "1.0"),
        ("2", "train/loss", "2.0"),
        ("3", "train/loss", "30.0"),
    ]
    assert path.read_text().count("step,epoch") == 1


def test_a_resumed_log_drops_the_validation_after_the_next_step(work: Path) -> None:
    """Lightning logs the validation that follows step n as step n − 1."""
    path = work / "metrics.csv"
    log = CurveLog(path)
    for step in (1, 2):
        log.log_metrics({"train/loss": float(step), "epoch": 0}, step=step)
        log.log_metrics({"val/loss": float(step), "epoch": 0}, step=step - 1)
    log.finalize("failed")
    resumed = CurveLog(path, resumed_step=1)
    resumed.log_metrics({"train/loss": 2.0, "epoch": 0}, step=2)
    resumed.finalize("success")
    kept = [(row[0], row[2]) for row in read_curve_rows(path)]
    assert kept == [("1", "train/loss"), ("0", "val/loss"), ("2", "train/loss")]


def test_a_row_that_was_cut_is_left_out_wherever_the_cut_is(work: Path) -> None:
    path = work / "metrics.csv"
    whole = "step,epoch,name,value\n1,0,train/loss,2.5\n"
    row = "2,0,train/loss,1.25\n"
    for cut in range(len(row)):
        path.write_text(whole + row[:cut])
        assert read_curve_rows(path) == [["1", "0", "train/loss", "2.5"]], cut
        resumed = CurveLog(path, resumed_step=5)
        resumed.log_metrics({"a": 1.0, "epoch": 1}, step=6)
        resumed.finalize("success")
        assert path.read_text() == whole + "6,1,a,1.0\n"
    path.write_text(whole + row)
    assert len(read_curve_rows(path)) == 2


def test_a_log_without_values_leaves_no_file(work: Path) -> None:
    log = CurveLog(work / "metrics.csv")
    log.log_hyperparams({"a": 1})
    log.finalize("success")
    assert not list(work.iterdir())


def test_a_damaged_curve_is_copied_before_a_resumed_log_drops_its_rows(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = work / "metrics.csv"
    damaged = "step,epoch,name,value\n1,0,a,0.5\n2,0,a\n3,0,a,1.5\n"
    for content, is_copied in ((damaged, True), (damaged.replace("2,0,a\n", "") + "4,0,a", False)):
        path.write_text(content)
        log = CurveLog(path, resumed_step=3)
        log.log_metrics({"a": 2.5}, step=4)
        log.finalize("success")
        assert [row[0] for row in read_curve_rows(path)] == ["1", "3", "4"]
        assert ("metrics.csv.damaged is a copy" in capsys.readouterr().out) == is_copied
    assert [file.name for file in sorted(work.iterdir())] == ["metrics.csv", "metrics.csv.damaged"]
    assert (work / "metrics.csv.damaged").read_text() == damaged


def test_a_full_disk_names_the_file_and_the_curve_goes_on_with_room(work: Path) -> None:
    path = work / "metrics.csv"
    log = CurveLog(path)
    log.log_metrics({"a": 1.0}, step=1)
    whole = path.read_bytes()
    log.finalize("success")
    full = CurveLog(path)
    full.path = Path("/dev/full")
    with pytest.raises(RunError, match=r"^cannot write /dev/full: No space left on device$"):
        full.log_metrics({"a": 2.0}, step=2)
    full.finalize("failed")
    path.write_bytes(whole + b"2,,a,2")  # what fitted
    resumed = CurveLog(path, resumed_step=1)
    resumed.log_metrics({"a": 2.0}, step=2)
    resumed.finalize("success")
    assert [row[0] for row in read_curve_rows(path)] == ["1", "2"]


def test_a_folder_that_is_gone_is_named(work: Path) -> None:
    log = CurveLog(work / "gone" / "metrics.csv")
    with pytest.raises(RunError, match=r"^cannot write .*gone/metrics\.csv: No such file or directory$"):
        log.log_metrics({"a": 1.0}, step=1)

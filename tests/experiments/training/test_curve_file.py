"""What is left of a damaged `metrics.csv`, and that the damage is seen."""

import os
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.training.curve_file import is_damaged_curve, read_curve_rows

GOOD = ["step,epoch,name,value", "1,0,a,0.5", "4,,a,nan"]


def test_damaged_rows_are_left_out(work: Path) -> None:
    bad = ["x,0,a,0.5", "2,y,a,0.5", "3,0,a,0.5.5", f"{'9' * 5000},0,a,1", '3,0,"a,1', "3,0,a\0", "", "\xff"]
    for row in bad:
        (work / "metrics.csv").write_text("\n".join([*GOOD[:2], row, GOOD[2], ""]), encoding="latin-1")
        assert read_curve_rows(work / "metrics.csv") == [["1", "0", "a", "0.5"], ["4", "", "a", "nan"]]
        assert is_damaged_curve(work / "metrics.csv"), row


@pytest.mark.parametrize(
    ("content", "is_damaged"),
    [
        ("", False),
        ("step,ep", False),  # killed in its first line
        ("\n".join(GOOD), False),  # killed in its last line
        ("\n".join(["stop,epoch,name,value", *GOOD[1:], ""]), True),
        ("\n".join([*GOOD[1:], ""]), True),
        ("\r\n".join([*GOOD, ""]), False),  # saved by a spreadsheet
    ],
)
def test_a_cut_off_end_is_no_damage(content: str, is_damaged: bool, work: Path) -> None:
    (work / "metrics.csv").write_bytes(content.encode())
    assert is_damaged_curve(work / "metrics.csv") == is_damaged


def test_what_cannot_be_read_is_refused(work: Path) -> None:
    os.mkfifo(work / "pipe")
    (work / "folder").mkdir()
    for name, reason in (("pipe", "a device, a pipe or a socket"), ("folder", "Is a directory")):
        with pytest.raises(UserError, match=rf"^cannot read .*{name}.*{reason}"):
            read_curve_rows(work / name)

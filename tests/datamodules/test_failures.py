"""A failed write becomes one line that names the file, and leaves the old file as it was."""

import errno
from pathlib import Path

import pytest

from datamodules.failures import RunError, replacing, writing


def test_the_line_names_file_and_reason(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match=r"^cannot write x\.csv: No space left on device$"),
        writing(Path("x.csv")),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(RunError, match=r"/none/x\.csv: No such file or directory$"),
        writing(tmp_path / "none/x.csv"),
    ):
        (tmp_path / "none/x.csv").write_text("")


@pytest.mark.parametrize("error", [OSError("bad disk"), KeyboardInterrupt(), ValueError("mine")])
def test_an_error_leaves_the_old_file_and_nothing_else(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("old")

    def replace() -> None:
        with replacing(path) as temporary:
            temporary.write_text("new")
            raise error

    with pytest.raises(RunError if isinstance(error, OSError) else type(error)):
        replace()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_the_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert [file.read_text() for file in tmp_path.iterdir()] == ["new"]

"""Event files: a full disk is one line with the file's name, and a resumed run's file is read last."""

import errno
import threading
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.io import gfile

from experiments.console import recorded
from experiments.errors import RunError
from experiments.training.event_log import PREFIX, EventLog, let_next_file_be_last


def no_room(*args: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def points(run_dir: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def log_until_it_fails(log: EventLog) -> None:
    for step in range(2, 100):
        log.log_metrics({"loss": 1.0}, step)
        log.experiment.flush()


def log_steps(run_dir: Path, steps: range, value: float, resumed_step: int | None = None) -> None:
    log = EventLog(run_dir, resumed_step=resumed_step)
    for step in steps:
        log.log_metrics({"loss": value}, step)
    log.finalize("success")


def test_the_error_of_the_thread_is_one_line_that_names_the_file(
    work: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log, hook = EventLog(work), threading.excepthook
    with recorded(work):
        log.log_metrics({"loss": 1.0}, 1)
        log.experiment.flush()
        monkeypatch.setattr(gfile.LocalFileSystem, "append", no_room)
        monkeypatch.setattr(gfile.LocalFileSystem, "write", no_room)
        with pytest.raises(
            RunError, match=rf"^cannot write .*tensorboard/{PREFIX}\S+: No space left"
        ) as error:
            log_until_it_fails(log)
        log.finalize("failed")  # hides nothing
        with pytest.raises(RunError, match="No space left"):
            log.finalize("success")
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""
    assert "No space left" in (work / "run.log").read_text()
    assert threading.excepthook is hook


def test_a_folder_that_cannot_be_made_is_named(work: Path) -> None:
    (work / "tensorboard").write_text("a file")
    with pytest.raises(RunError, match=r"cannot write .*tensorboard: "):
        EventLog(work).log_metrics({"loss": 1.0}, 1)


def test_the_folder_keeps_signs_that_lightning_would_expand(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "elsewhere")
    log_steps(work / "a $PLACE", range(1, 2), 1.0)
    assert list((work / "a $PLACE" / "tensorboard").glob(f"{PREFIX}*"))


@pytest.mark.parametrize("later", [-86_400, 0, 5])
def test_a_resumed_curve_has_each_step_once_whatever_the_clock_says(
    later: int, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    log_steps(work, range(1, 7), 1.0)
    now += later
    log_steps(work, range(5, 9), 2.0, resumed_step=4)
    now += later
    log_steps(work, range(8, 10), 3.0, resumed_step=7)
    assert points(work) == [
        *((s, 1.0) for s in range(1, 5)),
        *((s, 2.0) for s in range(5, 8)),
        (8, 3.0),
        (9, 3.0),
    ]


def test_files_are_renamed_only_if_the_next_would_not_be_last(work: Path) -> None:
    names = [f"{PREFIX}1000000000.host.1.0", f"{PREFIX}9000000000.host.1.0"]
    (work / names[0]).touch()
    let_next_file_be_last(work)
    assert [p.name for p in work.iterdir()] == names[:1]
    (work / names[1]).touch()
    for _ in range(2):
        let_next_file_be_last(work)
        assert sorted(p.name for p in work.iterdir()) == [
            f"{PREFIX}0000000000.host.1.0",
            f"{PREFIX}0000000001.host.1.0",
        ]

"""What the commands print."""

import errno
import logging
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from experiments.console import announce, quiet_lightning, recorded, say
from experiments.errors import RunError

NAMES = ("lightning", "lightning.pytorch", "lightning.fabric")


def test_a_table_is_wide_enough_where_there_is_no_terminal() -> None:
    code = (
        "import sys; from experiments.console import console; print(console().width, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["120", "False"]


@pytest.mark.parametrize(("rank", "printed"), [("0", "a line\n"), ("1", "")])
def test_only_rank_zero_speaks_and_every_rank_logs(
    rank: str,
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    with caplog.at_level("INFO", logger="experiments"):
        say("a line")
    assert capsys.readouterr().out == printed
    assert caplog.messages == ["a line"]


@pytest.mark.parametrize(("terminal", "printed"), [(True, "opening a.ckpt\n"), (False, "")])
def test_an_announcement_is_for_a_terminal_only(
    terminal: bool, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    announce("opening a.ckpt")
    assert capsys.readouterr() == ("", printed)


def loggers() -> list[tuple[list[logging.Handler], bool]]:
    return [(logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in NAMES]


def test_lightning_and_warnings_speak_to_the_log_alone(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before, root = loggers(), logging.getLogger().handlers[:]
    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("lightning.pytorch").warning("a note")
        warnings.warn("a warning", stacklevel=1)
    assert [record.getMessage().split(": ")[-1].split("\n")[0] for record in caplog.records] == [
        "a note",
        "a warning",
    ]
    assert capfd.readouterr().err == ""
    assert (loggers(), logging.getLogger().handlers) == (before, root)
    with pytest.warns(UserWarning, match="heard again"):
        warnings.warn("heard again", stacklevel=1)


def fill_disk(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writes to a log fail as on a full disk."""

    def no_room() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    (handler,) = (h for h in handlers if h.baseFilename == str(log))
    monkeypatch.setattr(handler, "flush", no_room)


def test_a_line_that_run_log_cannot_take_is_lost_and_the_run_goes_on(
    work: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with recorded(work):
        fill_disk(work / "run.log", monkeypatch)
        say("a line")
    assert capfd.readouterr() == (
        "a line\n",
        f"lines are missing in {work / 'run.log'}: No space left on device\n",
    )


def fail_on_a_full_disk(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with recorded(run_dir):
        fill_disk(run_dir / "run.log", monkeypatch)
        raise ValueError("the cause")


def test_a_full_log_does_not_hide_why_a_run_failed(
    work: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="the cause"):
        fail_on_a_full_disk(work, monkeypatch)
    assert capfd.readouterr().err == ""


def test_a_run_log_that_cannot_be_opened_is_named(work: Path) -> None:
    (work / "run.log").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*run\.log: Is a directory"), recorded(work):
        pass


def test_a_fault_in_a_thread_is_shown(capsys: pytest.CaptureFixture[str], work: Path) -> None:
    shown: list[object] = []
    hook, threading.excepthook = threading.excepthook, lambda failed: shown.append(failed.exc_value)
    try:
        with recorded(work):
            thread = threading.Thread(target=lambda: [][0])
            thread.start()
            thread.join()
    finally:
        threading.excepthook = hook
    assert [type(error) for error in shown] == [IndexError]

"""What the commands print."""

import logging
import subprocess
import sys
import warnings

import pytest

from experiments.console import announce, quiet_lightning, say

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

"""What the commands print."""

import subprocess
import sys

import pytest

from experiments.console import announce, say


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

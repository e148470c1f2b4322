"""A run of several processes ends in one line if one of them dies."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from experiments.errors import RunError
from experiments.training import lightning_adapter, lost_ranks
from experiments.training.lost_ranks import RANK_ZERO_VARIABLE, lost_ranks_named


@pytest.fixture
def rank_one(monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that rank zero, which is this process, has started."""
    monkeypatch.setattr(lightning_adapter, "watch_ranks", lambda start: None)
    monkeypatch.setattr(lost_ranks, "_watching", False)
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    monkeypatch.setattr(lost_ranks, "_children", [process])
    yield process
    process.kill()
    process.wait()


def test_rank_zero_names_the_killed_rank(rank_one: "subprocess.Popen[bytes]") -> None:
    rank_one.kill()
    with (
        pytest.raises(RunError, match=r"local rank 1 ended with SIGKILL, .* resume=auto"),
        lost_ranks_named(),
    ):
        raise RuntimeError("Connection closed by peer")


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), RunError("cannot write x")])
def test_rank_zero_that_fails_ends_the_others_and_keeps_its_error(
    rank_one: "subprocess.Popen[bytes]", error: Exception
) -> None:
    with pytest.raises(type(error), match=str(error)), lost_ranks_named():
        raise error
    assert rank_one.wait(60) != 0


def test_another_rank_names_rank_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_ranks, "_watching", True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv(RANK_ZERO_VARIABLE, str(os.getppid()))
    with pytest.raises(ZeroDivisionError), lost_ranks_named():  # rank zero is there: an error of its own
        raise ZeroDivisionError
    monkeypatch.setenv(RANK_ZERO_VARIABLE, "999999999")
    with pytest.raises(RunError, match="local rank 0 has ended"), lost_ranks_named():
        raise RuntimeError("Connection closed by peer")


def test_a_process_that_waits_for_a_killed_rank_is_ended(
    rank_one: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The main thread would wait for 30 minutes; a thread ends the process in its place."""
    ended: list[int] = []
    is_ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: (ended.append(status), is_ended.set()))
    monkeypatch.setattr(lost_ranks, "GRACE", 0.1)
    monkeypatch.setattr(lost_ranks, "POLL", 0.01)
    with lost_ranks_named():
        lost_ranks._adopt([rank_one])
        time.sleep(0.05)
        assert not ended
        rank_one.kill()
        assert is_ended.wait(60)
    assert ended == [1]
    error = capfd.readouterr().err
    assert error.startswith("error: the process of local rank 1 ended with SIGKILL")
    assert error.count("\n") == 1


def test_a_rank_that_fails_after_the_run_is_no_error(
    rank_one: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(lost_ranks, "GRACE", 0.05)
    monkeypatch.setattr(lost_ranks, "POLL", 0.01)
    with lost_ranks_named():
        lost_ranks._adopt([rank_one])
    rank_one.kill()
    time.sleep(0.2)
    assert not ended

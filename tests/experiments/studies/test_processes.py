"""A job runs in its own process: exit status and signals arrive."""

import os
import signal
import sys
import threading
import time

import pytest

from experiments.studies.processes import run_in_process


@pytest.mark.slow
def test_a_child_process_ends_with_its_status_and_hears_of_signals() -> None:
    assert run_in_process(sys.exit, (3,)) == (3, None)
    assert run_in_process(os.abort, ())[0] == 128 + signal.SIGABRT
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    # The signal reaches the child as SIGTERM, and the parent knows which one it was.
    assert run_in_process(time.sleep, (300,)) == (143, signal.SIGINT)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.slow
def test_ctrl_c_while_a_process_starts_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal arrives before the child exists, and stops it as soon as it does."""
    from multiprocessing.process import BaseProcess

    start = BaseProcess.start

    def interrupted(process: BaseProcess) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        start(process)

    monkeypatch.setattr(BaseProcess, "start", interrupted)
    began = time.perf_counter()
    assert run_in_process(time.sleep, (300,)) == (143, signal.SIGINT)
    assert time.perf_counter() - began < 100
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())

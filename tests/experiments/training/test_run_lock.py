"""One process at a time writes a run directory, and a lock ends with its process."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from experiments.training import run_lock

HOLDER = """
import sys, time
from pathlib import Path
from experiments.training import run_lock
run_lock.claim(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def held_by_another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_second_process_is_refused_with_the_first_ones_number_and_host(work: Path) -> None:
    with held_by_another_process(work) as holder:
        for _ in range(2):  # a refused try does not wipe out who has it
            with pytest.raises(
                run_lock.InUseError, match=f"is in use by process {holder.pid} on {socket.gethostname()}"
            ):
                run_lock.claim(work)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        run_lock.claim(work)  # what a killed process leaves is no obstacle
        assert run_lock.owner(work)["pid"] == os.getpid()
        run_lock.release(work)
    assert list(work.iterdir()) == []


def test_claims_end_with_their_block_and_only_those(work: Path) -> None:
    inner = work / "stage"
    inner.mkdir()
    with run_lock.claims_end():
        run_lock.claim(work)
        with run_lock.claims_end():
            run_lock.claim(work)  # a second time by the same process
            run_lock.claim(inner)
        assert not (inner / run_lock.LOCK).exists()
        assert (work / run_lock.LOCK).exists()
    assert [p.name for p in work.iterdir()] == ["stage"]


def test_an_unreadable_owner_is_another_process(work: Path) -> None:
    from filelock import FileLock

    with FileLock(work / run_lock.LOCK):
        for content in ("", "[]", json.dumps({"pid": 1})):
            (work / run_lock.OWNER).write_text(content)
            with pytest.raises(run_lock.InUseError, match="in use by another process; wait"):
                run_lock.claim(work)


@pytest.mark.parametrize(
    ("more", "step"),
    [
        ({}, "12-3-0"),
        ({"SLURM_RESTART_COUNT": "1"}, "12-3-1"),  # queued again
        ({"SLURM_NTASKS": "1"}, None),
        ({"SLURM_NTASKS": ""}, None),
        ({"SLURM_JOB_NAME": "bash"}, None),  # srun --pty bash
        ({"SLURM_JOB_NAME": "train"}, "12-3-0"),
    ],
)
def test_the_ranks_of_one_srun_share_a_name_and_the_commands_of_a_shell_do_not(
    more: dict[str, str], step: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "3"}
    for name, value in (variables | more).items():
        monkeypatch.setenv(name, value)
    assert run_lock.slurm_step() == step


def test_a_claim_can_wait_for_the_process_that_still_saves(work: Path) -> None:
    """As a study's fit does for that of a study that was killed."""
    lock = FileLock(work / run_lock.LOCK, thread_local=False)
    lock.acquire()
    with pytest.raises(run_lock.InUseError):
        run_lock.claim(work, wait=0.1)
    threading.Timer(0.3, lock.release).start()
    run_lock.claim(work, wait=30)
    assert (work / run_lock.OWNER).exists()
    run_lock.release(work)


@pytest.mark.parametrize("damaged", ["", "{", "[]", "[" * 100_000])
def test_the_owner_of_a_damaged_file_is_unknown(work: Path, damaged: str) -> None:
    (work / run_lock.OWNER).write_text(damaged)
    assert run_lock.owner(work) == {}

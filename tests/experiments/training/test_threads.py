"""Threads wait in a loop on a quiet machine and briefly on a busy one, and results stay the same."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from experiments.training import threads
from experiments.training.threads import QUIET_LOOKS, CoreSharing, Usage, core_quota, respect_quota

TWO_CORES = """cpu  900 0 0 900 0 0 0 0 0 0
cpu0 100 20 30 700 40 5 5 0 0 0
cpu1 200 0 0 500 0 0 0 100 0 0
cpu2 600 0 0 0 0 0 0 0 0 0
intr 5
"""


@pytest.fixture
def sharing(monkeypatch: pytest.MonkeyPatch) -> CoreSharing:
    """A watch that starts no teams, in a process whose PyTorch takes two threads."""
    monkeypatch.setattr(threads, "_torch_threads", lambda: 2)
    monkeypatch.setattr(threads, "_keep_team", lambda *_: None)
    return CoreSharing()


def test_threads_wait_briefly_only_while_others_need_the_cores(sharing: CoreSharing) -> None:
    sharing.look(0.1, 2)
    assert not sharing.is_brief
    sharing.look(0.6, 2)
    assert sharing.is_brief
    for _ in range(QUIET_LOOKS - 1):
        sharing.look(0.0, 2)
    sharing.look(1.0, 2)
    for _ in range(QUIET_LOOKS - 1):
        sharing.look(0.0, 2)
        assert sharing.is_brief  # a pause of a neighbour is not its end
    sharing.look(0.0, 2)
    assert not sharing.is_brief


def test_free_cores_are_left_to_others(sharing: CoreSharing) -> None:
    sharing.look(5.0, 8)
    assert not sharing.is_brief
    sharing.look(6.5, 8)
    assert sharing.is_brief


def test_one_thread_waits_for_nobody(sharing: CoreSharing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_torch_threads", lambda: 1)
    sharing.look(2.0, 2)
    assert not sharing.is_brief


@pytest.mark.parametrize(("team", "cores", "teams"), [(2, 2, 1), (4, 8, 2), (8, 8, 1), (3, 8, 2)])
def test_there_are_more_threads_than_cores(
    team: int, cores: int, teams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    monkeypatch.setattr(threads, "_torch_threads", lambda: team)
    monkeypatch.setattr(threads, "_keep_team", lambda size, _: kept.append(size))
    CoreSharing().wait_briefly(team, cores)
    assert len(kept) == teams
    assert team + sum(kept) > cores


def test_usage_counts_the_cores_of_this_process_only(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(TWO_CORES)
    ticks = os.sysconf("SC_CLK_TCK")
    assert Usage.now({0}, tmp_path / "stat").cores == 160 / ticks
    assert Usage.now({0, 1}, tmp_path / "stat").cores == 460 / ticks


def test_others_take_what_this_process_did_not() -> None:
    assert Usage(13.0, 7.5).others_since(Usage(10.0, 6.0), 2.0) == pytest.approx(0.75)
    assert Usage(10.0, 7.0).others_since(Usage(10.0, 6.0), 2.0) == 0.0  # the counters are rounded to ticks


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_quota_of_a_container(files: dict[str, str], cores: float | None, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert core_quota(tmp_path) == cores


def test_a_quota_sets_the_number_of_threads_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: set(range(64)))
    monkeypatch.setattr(threads, "core_quota", lambda: 2.5)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    respect_quota()
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    respect_quota()
    assert os.environ["OMP_NUM_THREADS"] == "5"


@pytest.mark.parametrize("name", threads.CHOSEN_BY_USER)
def test_the_users_choice_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in threads.CHOSEN_BY_USER:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "1000")
    before = threading.active_count()
    CoreSharing().start()
    assert threading.active_count() == before
    assert threads.describe_waiting() == f"{name}=1000"


PROOF = """
import os, threading, time, torch
from experiments.training.threads import CoreSharing

def work():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.GELU(), torch.nn.Linear(300, 300))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(5):
        net(torch.randn(256, 300)).square().mean().backward()
        optimizer.step()
    return torch.cat([p.flatten() for p in net.parameters()])

def tasks():
    return len(os.listdir("/proc/self/task"))

def settle(count):
    for _ in range(200):
        if tasks() == count:
            return
        time.sleep(0.02)
    raise SystemExit(f"{tasks()} threads, expected {count}")

alone, before = work(), tasks()
sharing = CoreSharing()
sharing.wait_briefly(2, 2)
settle(before + 2)
assert torch.equal(work(), alone)
sharing.wait_in_a_loop()
settle(before)
assert torch.equal(work(), alone)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the number of threads is read from /proc")
def test_an_idle_team_comes_and_goes_and_changes_no_number() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", PROOF], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

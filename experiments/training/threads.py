"""Share the cores with other processes: how many threads PyTorch takes, and how its threads wait.

PyTorch computes with a team of OpenMP threads. Between two operators, a thread of the team waits in
a loop for a while. This is fast on a quiet machine. On a busy machine the loop takes time from the
thread that the team is waiting for, and a run becomes several times slower.

GNU's OpenMP has a rule for this: when a process has more OpenMP threads than cores, a waiting
thread goes to sleep almost at once (libgomp manual, `GOMP_SPINCOUNT`). `CoreSharing` uses this
rule. It watches the machine, and while others need the cores, it keeps a second, idle team. How
threads wait changes no result.
"""

import logging
import math
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("experiments")

CHOSEN_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
INTERVAL = 0.5  # seconds between two looks at the machine
QUIET_LOOKS = 4  # looks at a quiet machine, one after the other, before threads wait in a loop again
SMALL_NETWORK = 5_000_000  # parameters
BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def usable_cores() -> set[int]:
    """Return the numbers of the cores on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def core_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return how many cores the container may use on average (cgroup v2 or v1), or `None` without a limit."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no file, or the quota "max"
        return None
    return cores if cores > 0 else None


def respect_quota() -> None:
    """Let OpenMP take as many threads as the container has cores; to be called before torch is imported.

    Without this, PyTorch takes a thread for each core of the host. A number that the user has set is kept.
    """
    quota = core_quota()
    if quota is not None and quota < len(usable_cores()):
        os.environ.setdefault("OMP_NUM_THREADS", str(math.ceil(quota)))


@dataclass(frozen=True)
class Usage:
    """Seconds of work since the start: of the cores that this process may use, and of this process."""

    cores: float
    process: float

    @classmethod
    def now(cls, cores: set[int], stat: Path = Path("/proc/stat")) -> "Usage":
        """Read the counters of the system.

        Raises:
            OSError: The system has no such counters (it is not Linux).
        """
        ticks = 0
        for line in stat.read_text(encoding="ascii").splitlines():
            name, *numbers = line.split()
            if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cores:
                ticks += sum(int(n) for key, n in zip(COLUMNS, numbers, strict=False) if key in BUSY)
        return cls(ticks / os.sysconf("SC_CLK_TCK"), time.process_time())

    def others_since(self, earlier: "Usage", seconds: float) -> float:
        """Return how many cores other processes took on average in the `seconds` since an earlier look."""
        return max(0.0, (self.cores - earlier.cores - self.process + earlier.process) / seconds)


class CoreSharing:
    """Watch the machine in a thread, and let the threads of OpenMP wait briefly while it is busy."""

    def __init__(self) -> None:
        self.is_brief = False
        self._is_watching = False
        self._quiet_looks = 0
        self._release = threading.Event()

    def start(self) -> None:
        """Start to watch, once per process; do nothing where the user has chosen or the system can't tell."""
        if self._is_watching or any(name in os.environ for name in CHOSEN_BY_USER):
            return
        self._is_watching = True
        threading.Thread(target=self._watch, name="core sharing", daemon=True).start()

    def _watch(self) -> None:
        cores = usable_cores()
        try:
            earlier, before = Usage.now(cores), time.monotonic()
            while True:
                time.sleep(INTERVAL)
                usage, moment = Usage.now(cores), time.monotonic()
                self.look(usage.others_since(earlier, moment - before), len(cores))
                earlier, before = usage, moment
        except OSError:
            return

    def look(self, others: float, cores: int) -> None:
        """Decide how threads wait, after a look at the machine.

        Args:
            others: Number of cores that other processes took since the last look.
            cores: Number of cores that this process may use.
        """
        threads = _torch_threads()
        if threads < 2:  # not imported yet, or there is no team
            return
        missing = threads + others - cores
        self._quiet_looks = 0 if missing > 0.15 else self._quiet_looks + 1
        if missing > 0.25 and not self.is_brief:
            log.info("other processes use %.1f of %d cores: OpenMP threads wait briefly", others, cores)
            self.wait_briefly(threads, cores)
        elif self.is_brief and self._quiet_looks >= QUIET_LOOKS:
            self.wait_in_a_loop()

    def wait_briefly(self, threads: int, cores: int) -> None:
        """Keep idle teams of `threads` threads, so many that there are more OpenMP threads than `cores`."""
        self._release = threading.Event()
        self.is_brief = True
        for _ in range(max(1, cores // threads)):
            threading.Thread(target=_keep_team, args=(threads, self._release), daemon=True).start()

    def wait_in_a_loop(self) -> None:
        """End the idle teams."""
        self.is_brief = False
        self._release.set()


def _torch_threads() -> int:
    """Return the number of threads that PyTorch takes for an operator, or 0 before it is imported."""
    torch = sys.modules.get("torch")
    if torch is None or getattr(torch.__spec__, "_initializing", False):
        return 0
    return int(torch.get_num_threads())


def _keep_team(threads: int, release: threading.Event) -> None:
    """Start a team of OpenMP threads for this thread, and keep it until the release."""
    import torch

    torch.zeros(threads << 16, dtype=torch.uint8).bitwise_not_()  # enough work for all threads
    release.wait()


core_sharing = CoreSharing()


def use_one_thread_if_small(network: "nn.Module") -> None:
    """Let PyTorch compute with one thread if the matrices of a network are too small to be divided.

    For generation, where each step multiplies the matrices by a single vector.
    """
    import torch

    if sum(p.numel() for p in network.parameters()) < SMALL_NETWORK:
        torch.set_num_threads(1)


def describe_waiting() -> str:
    """Return how the threads of this process wait: as the user has set it, or as it is now."""
    chosen = [f"{name}={os.environ[name]}" for name in CHOSEN_BY_USER if name in os.environ]
    return " ".join(chosen) or ("briefly, on a busy machine" if core_sharing.is_brief else "in a loop")

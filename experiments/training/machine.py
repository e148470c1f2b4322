"""Describe the machine, the package versions and the code revision, and measure peak memory."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.sources import REPOSITORY
from experiments.training.threads import describe_waiting

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "omegaconf", "tensorboard", "numpy")


def default_device() -> "torch.device":
    """Return the accelerator if there is one, else the CPU."""
    import torch

    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def describe_machine() -> dict[str, Any]:
    """Return the hardware and the versions that results and times depend on."""
    import torch

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "processor": _processor(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "threads_wait_at_start": describe_waiting(),
        "gpus": [torch.cuda.get_device_name(index) for index in gpus],
    }


def describe_revision(folder: Path = REPOSITORY) -> dict[str, Any]:
    """Return the commit that runs and whether files differ from it; both `None` outside a checkout."""

    def git(*arguments: str) -> str | None:
        if not (folder / ".git").exists():  # an installed suite may lie inside somebody else's repository
            return None
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain")
    return {
        "git_revision": git("rev-parse", "HEAD"),
        "git_changed": None if changes is None else bool(changes),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """Return the peak memory of this process: GPU memory if a GPU was used, else resident; NaN if unknown."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = peak_resident_bytes()
    return float("nan") if peak is None else peak / 2**20


def peak_resident_bytes() -> int | None:
    """Return the peak resident memory of this process; `None` where the system does not report it."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss, not inherited from the parent process
        lines = status.read_text(encoding="utf-8").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

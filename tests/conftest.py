"""What every test starts from: the process's global state as it was, and small settings for real runs."""

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes on two cores: further threads would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# What Lightning, a launcher, a benchmark or a run leaves in the environment of its process.
LEFTOVERS = (
    "EXPERIMENTS_RUN_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "PL_GLOBAL_SEED",
    "PL_SEED_WORKERS",
    "CUBLAS_WORKSPACE_CONFIG",
    "MASTER_ADDR",
    "MASTER_PORT",
    "NODE_RANK",
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background with Ctrl-C ignored; here it has to be heard.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _global_state_put_back() -> Iterator[None]:
    """Random states, default dtype, determinism, process groups, signal handlers, environment, folder."""
    import torch
    import torch.distributed as dist

    randoms = random.getstate(), np.random.get_state(), torch.get_rng_state()
    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    gradients = torch.is_grad_enabled()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    folder, environment = Path.cwd(), {name: os.environ.get(name) for name in LEFTOVERS}
    yield
    os.chdir(folder)
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
    torch.set_grad_enabled(gradients)
    now = torch.are_deterministic_algorithms_enabled()
    if (now, torch.is_deterministic_algorithms_warn_only_enabled()) != (deterministic, warn_only):
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)  # imports the compiler
    torch.set_default_dtype(dtype)
    torch.set_float32_matmul_precision(precision)
    random.setstate(randoms[0])
    np.random.set_state(randoms[1])
    torch.set_rng_state(randoms[2])


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """A function that makes every write beyond so many bytes of a file fail, as on a full disk."""
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, so that `runs/` lands there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(work: Path) -> dict[str, Any]:
    """A fit of two epochs of six steps on the bundled digits: half a second, and nothing drawn."""
    return {
        "name": "tiny",
        "model": {"name": "mlp", "hidden": [8]},
        "data": {"name": "digits", "batch_size": 250, "eval_batch_size": 100},
        "optimizer": {"name": "sgd", "lr": 0.05},
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "precision": "32-true",
            "log_every_n_steps": 2,
            "dashboard": False,
            "progress_bar": False,
        },
    }


@pytest.fixture
def tiny_file(tiny: dict[str, Any], work: Path) -> Path:
    """The same as a file in the working folder."""
    from experiments.config.check import to_yaml

    path = work / "tiny.yaml"
    path.write_text(to_yaml(tiny), encoding="utf-8")
    return path


@pytest.fixture
def own_code_forgotten() -> Iterator[None]:
    """Put the catalog and the list of loaded files back after a test that registers own classes."""
    from experiments.config import own_code, registry

    kept = {kind: dict(names) for kind, names in registry.CATALOG.items()}
    own, used, path = set(registry.OWN), dict(own_code._used), list(sys.path)
    yield
    for kind, names in kept.items():
        registry.CATALOG[kind].clear()
        registry.CATALOG[kind].update(names)
    registry.OWN.clear()
    registry.OWN.update(own)
    for name in own_code._used.keys() - used.keys():
        del own_code._used[name], sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def chat_file(tmp_path: Path) -> Path:
    """Write thirty short conversations of different lengths."""
    lines = []
    for number in range(30):
        messages = [{"role": "user", "content": f"say {number} " * (1 + number % 5)}]
        messages.append({"role": "assistant", "content": f"{number}! " * (1 + number % 7)})
        lines.append(json.dumps({"messages": messages}))
    (tmp_path / "chat.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "chat.jsonl"

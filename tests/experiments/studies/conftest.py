"""Fixtures that run the fits of a study in this process, or kill the process of a study."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments.config import own_code
from experiments.config.check import to_yaml
from experiments.studies import study
from tests.campaigns.run_process import processes_of_group

LIMIT = 300
"""Seconds after which a defect counts as hanging."""


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the fits here, which is quicker; return the list of their folders, which grows."""
    started = []

    def call(job: Any, arguments: tuple[Any, ...]) -> tuple[int, int | None]:
        started.append(Path(arguments[0]).as_posix())
        kept = sys.argv[:]
        try:
            job(*arguments)
        except SystemExit as error:
            return int(error.code or 0), None
        finally:
            sys.argv[:] = kept
        raise AssertionError("a job ends with an exit status")

    monkeypatch.setattr(study, "run_in_process", call)
    return started


SLOW = """
import time
from pathlib import Path
from lightning.pytorch.callbacks import Callback
from experiments import register

class Slow(Callback):
    def on_train_batch_start(self, *_):
        if Path("slow").exists():
            time.sleep(0.2)

register("callback", "slow", Slow)
"""


@pytest.fixture
def kill_when(work: Path, own_code_forgotten: None) -> Callable[[Mapping[str, Any], Sequence[Path]], None]:
    """Return a function that runs a config in `out`, kills it when files exist, and waits for its children.

    Only the process of the command is killed; its children have to end by themselves. Until then, each step
    takes a fifth of a second, so that few are done.
    """
    if not Path("/proc/self/stat").exists():
        pytest.skip("the processes of a group are listed on Linux")
    (work / "own.py").write_text(SLOW)
    (work / "slow").touch()
    own_code.use(work / "own.py")

    def run(settings: Mapping[str, Any], files: Sequence[Path]) -> None:
        (work / "config.yaml").write_text(to_yaml({**settings, "callbacks": {"slow": {}}}))
        words = ["config.yaml", "run_dir=out", "--use", "own.py"]
        with (work / "output").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "experiments.run", *words],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_until(lambda: all(path.exists() for path in files) or process.poll() is not None)
            assert process.poll() is None, (work / "output").read_text()
            assert len(processes_of_group(process.pid)) > 1
            process.kill()
            process.wait()
            wait_until(lambda: not processes_of_group(process.pid))
        finally:
            for pid in processes_of_group(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait()
        (work / "slow").unlink()

    return run


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)

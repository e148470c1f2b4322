"""Choose the directory of a run, and write and read its files.

runs/<name>/<time>-<suffix>/
    config.yaml  environment.json  metrics.json  metrics.csv  run.log
    checkpoints/best.ckpt  checkpoints/last.ckpt  tensorboard/
"""

import contextlib
import csv
import datetime
import io
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from experiments.config.check import to_yaml
from experiments.config.root import Config
from experiments.errors import Interrupted, RunError, UserError, replacing, writing
from experiments.training import run_lock
from experiments.training.curve_file import read_curve_rows
from experiments.training.machine import describe_machine, describe_revision

RUN_DIR_VARIABLE = "EXPERIMENTS_RUN_DIR"
"""Environment variable that tells the ranks started by this process which directory to use."""

RESULTS = ("config.yaml", "metrics.csv", "metrics.json", "comparison.csv", "checkpoints", "tensorboard")
"""A folder with one of these holds a run."""

LEFT_BY_A_START = (
    *("config.yaml", "environment.json", "metrics.csv", "run.log", "study.yaml", "failed.json"),
    *("events.out.tfevents.*", "sweep.journal", "*.lock"),
)
"""Files that a run without any result may have written."""

LONGEST_WAIT = 300
"""Seconds that a rank waits for rank zero to choose a directory."""


@dataclass(frozen=True)
class _Begun:
    made: tuple[Path, ...]  # the folders that were made for a run, innermost first
    before: frozenset[str]  # what its directory held before


_begun: dict[Path, _Begun] = {}
"""The new runs of this process by their resolved directory."""


def choose(config: Config) -> Path:
    """Return the directory of a new run, the same on all ranks; rank zero creates and claims it.

    Raises:
        UserError: `run_dir` already holds a run, is in use, or cannot be created.
    """
    if config.run_dir is not None:
        path = Path(config.run_dir)
    else:
        path = passed_by_rank_zero() or same_on_all_ranks(_unused_folder(config))
    if is_worker():
        return path
    _refuse_run(path)
    made = _make_folders(path)
    if config.run_dir is None and path not in made:
        raise UserError(f"{path} exists already; give each run of this SLURM step its own run_dir")
    before = frozenset(entry.name for entry in path.iterdir())
    claim(path)
    _refuse_run(path)  # another process may have begun and ended one in the meantime
    _begun[path.resolve()] = _Begun(made, before)
    if config.run_dir is None:
        pass_to_ranks(path)
    return path


def _refuse_run(path: Path) -> None:
    """Check that a directory holds nothing that a new run would overwrite."""
    try:
        found = os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):  # making it comes next, and names what is in the way
        return
    except OSError as error:
        raise UserError(f"cannot read the run directory {path}: {error.strerror}") from None
    if any(name in found for name in RESULTS):
        raise UserError(
            f"run_dir {path} already holds a run; continue it with resume=auto, or choose another run_dir"
        )


def _make_folders(path: Path) -> tuple[Path, ...]:
    """Make a directory and its parents; return those that did not exist, innermost first."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    made: list[Path] = []
    try:
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process was first
                folder.mkdir()
                made.insert(0, folder)
        path.mkdir(exist_ok=True)  # refuses a file of this name
    except OSError as error:
        raise UserError(f"cannot create the run directory {path}: {error.strerror}") from None
    return tuple(made)


def claim(path: Path, *, wait: float = 0.0) -> None:
    """Claim an existing directory for rank zero of this run; see `run_lock.claim`."""
    if not is_worker():
        run_lock.claim(path, wait=wait)


def discard(path: Path) -> None:
    """Remove what a new run without any result has left, and release its directory.

    The same command can then run again with other settings. Other files stay. A run that this process has not
    begun, or that has a checkpoint, a point of its curve or metrics, is not changed.
    """
    begun = _begun.pop(path.resolve(), None)
    if begun is None or is_worker() or not path.is_dir():
        return
    new = [entry for entry in path.iterdir() if entry.name not in begun.before]
    inside = [inner for entry in new if entry.is_dir() for inner in entry.rglob("*")]
    if _has_result(new, inside):
        return
    for file in (*new, *inside):
        if file.is_file() and any(file.match(pattern) for pattern in LEFT_BY_A_START):
            file.unlink(missing_ok=True)
    run_lock.release(path)
    for folder in (*sorted((p for p in (*new, *inside) if p.is_dir()), reverse=True), *begun.made):
        with contextlib.suppress(OSError):  # it holds other files
            folder.rmdir()


def _has_result(new: Sequence[Path], inside: Sequence[Path]) -> bool:
    """Return whether files of a run are a checkpoint, metrics, a point of a curve, or the log of a fit."""
    files = [*new, *inside]
    return (
        any(file.suffix == ".ckpt" or file.name == "metrics.json" for file in files)
        or any(file.name == "run.log" for file in inside)
        or any(file.name == "metrics.csv" and read_curve_rows(file) for file in files)
    )


@contextlib.contextmanager
def nothing_left_if_refused(path: Path) -> Iterator[None]:
    """Discard a new run that is refused or interrupted inside, before its first result."""
    try:
        yield
    except (UserError, RunError, Interrupted, KeyboardInterrupt):
        discard(path)
        raise


def _unused_folder(config: Config) -> Path:
    """Return the name of a new directory; all ranks that one `srun` started return the same."""
    step = run_lock.slurm_step()
    now = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(4)}"
    return Path("runs", *config.name.split("/"), now if step is None else f"job-{step}")


def passed_by_rank_zero() -> Path | None:
    """Return the directory that rank zero passed to this process; `None` if it passed none."""
    import torch.distributed as dist

    if not is_worker() or (dist.is_available() and dist.is_initialized()):
        return None  # connected ranks agree on the directory by `same_on_all_ranks`
    path = os.environ.get(RUN_DIR_VARIABLE)
    return Path(path) if path else None


def pass_to_ranks(path: Path) -> None:
    """Pass the directory to the ranks that Lightning will start from this process."""
    if not is_worker():
        os.environ[RUN_DIR_VARIABLE] = str(path.resolve())


def is_worker() -> bool:
    """Return whether this process is a rank above zero, started by Lightning, torchrun or SLURM."""
    return any(
        int(os.environ.get(name, 0) or 0) > 0 for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    )


Directory = TypeVar("Directory", Path, Path | None)


def same_on_all_ranks(path: Directory) -> Directory:
    """Return the path of rank zero on all ranks, if torchrun started them or they are connected already."""
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        return path
    if not dist.is_initialized():
        if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) == 1:
            return path
        # Lightning uses a process group that is already initialised.
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    names: list[Any] = [None if path is None else str(path.resolve())]
    dist.broadcast_object_list(names, src=0)
    return Path(names[0]) if names[0] is not None else path


def take_unfinished(config: Config) -> Path | None:
    """Claim the newest unfinished run of this name and form that no process is writing; `None` without one.

    All ranks return the same directory.
    """
    step = run_lock.slurm_step()
    if is_worker() and step is not None:
        return _taken_by_rank_zero(config, step)
    mine = None if is_worker() else _claim_newest(config)
    return same_on_all_ranks(mine)


def _claim_newest(config: Config) -> Path | None:
    for path in unfinished(config):
        try:
            run_lock.claim(path)
        except run_lock.InUseError:
            continue
        return path
    return None


def _taken_by_rank_zero(config: Config, step: str) -> Path | None:
    """Wait until rank zero of the same `srun` has claimed a directory, and return it."""
    until = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < until:
        for path in Path("runs", *config.name.split("/")).glob(f"*/{run_lock.OWNER}"):
            if run_lock.owner(path.parent).get("job") == step:
                return path.parent
        time.sleep(0.5)
    raise UserError(f"resume=auto: rank zero has not taken a run of {config.name} for {LONGEST_WAIT} s")


def unfinished(config: Config) -> list[Path]:
    """Return the runs of this name and form that have begun but have no final result, newest first."""
    result = "comparison.csv" if config.is_compared else "metrics.json"
    begun = "checkpoints/*.ckpt" if config.form == "fit" else "*/**/config.yaml"  # a fit of a study or chain
    runs = (p.parent for p in Path("runs", *config.name.split("/")).glob("*/config.yaml"))
    found = [r for r in runs if not (r / result).exists() and any(r.glob(begun))]
    return sorted(found, key=lambda r: (r / "config.yaml").stat().st_mtime, reverse=True)


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it, so that no reader sees an incomplete file."""
    with replacing(path) as temporary:
        for half_written in path.parent.glob(f".{path.name}.*"):  # left by a killed run
            half_written.unlink(missing_ok=True)
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV table, header first, in one step."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def write_start(path: Path, config: Config) -> None:
    """Write the resolved config and the environment of a run that starts.

    Files of a run that was killed before its first checkpoint are deleted, because the run starts again.
    """
    if (path / "config.yaml").exists():
        for stale in (path / "metrics.csv", path / "metrics.json", *path.glob("tensorboard/events.*")):
            with writing(stale):
                stale.unlink(missing_ok=True)
    write_text(path / "config.yaml", to_yaml(config.plain))
    write_text(path / "environment.json", json.dumps(environment(), indent=2) + "\n")


def write_continuation(path: Path, config: Config) -> None:
    """Write the config of a run that continues, and delete its final metrics until it ends again."""
    with writing(path / "metrics.json"):
        (path / "metrics.json").unlink(missing_ok=True)
    write_text(path / "config.yaml", to_yaml(config.plain))


def write_metrics(path: Path, metrics: Mapping[str, float]) -> None:
    """Write the final metrics as one flat JSON object; a value that is not finite becomes null."""
    flat = {k: (v if math.isfinite(v) else None) for k, v in metrics.items()}
    write_text(path / "metrics.json", json.dumps(flat, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """Return command line, code revision, versions and hardware, needed to judge the metrics."""
    return {
        "command": [Path(sys.executable).name, *sys.argv],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        **describe_revision(),
        **describe_machine(),
    }


def read_metrics(path: Path) -> dict[str, float]:
    """Return the final metrics of a finished run; null becomes NaN."""
    values = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
    return {k: math.nan if v is None else float(v) for k, v in values.items()}

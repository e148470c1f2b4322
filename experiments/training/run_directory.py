"""Choose the directory of a run, and write and read its files.

runs/<name>/<time>-<suffix>/
    config.yaml  environment.json  metrics.json  metrics.csv  run.log
    checkpoints/best.ckpt  checkpoints/last.ckpt  tensorboard/
"""

import csv
import datetime
import io
import json
import math
import os
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from experiments.config.check import to_yaml
from experiments.config.root import Config
from experiments.errors import UserError
from experiments.training.machine import describe_machine, describe_revision

RUN_DIR_VARIABLE = "EXPERIMENTS_RUN_DIR"
"""Environment variable that tells the ranks started by this process which directory to use."""


def choose(config: Config) -> Path:
    """Return the directory of a new run, the same on all ranks; rank zero creates it.

    Raises:
        UserError: `run_dir` already holds a run or cannot be created.
    """
    if config.run_dir is not None:
        path = Path(config.run_dir)
        if (path / "config.yaml").exists() and not is_worker():
            raise UserError(
                f"run_dir {path} already holds a run; continue it with resume=auto, or choose another run_dir"
            )
    else:
        path = passed_by_rank_zero() or same_on_all_ranks(
            Path("runs", *config.name.split("/"), _folder_name())
        )
    if not is_worker():
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot create the run directory {path}: {error.strerror}") from None
        if config.run_dir is None:
            pass_to_ranks(path)
    return path


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


def _folder_name() -> str:
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_STEP_ID" in os.environ:
        # srun starts all ranks at once; they have only the job's numbers in common.
        keys = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
        return "-".join(["job", *(os.environ.get(key, "0") for key in keys)])
    return f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(2)}"


def is_worker() -> bool:
    """Return whether this process is a rank above zero, started by Lightning, torchrun or SLURM."""
    return any(
        int(os.environ.get(name, 0) or 0) > 0 for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    )


def same_on_all_ranks(path: Path) -> Path:
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
    names: list[Any] = [str(path.resolve())]
    dist.broadcast_object_list(names, src=0)
    return Path(names[0])


def newest_unfinished(config: Config) -> Path | None:
    """Return the newest run of this name and form that has a checkpoint or a fit but no final result."""
    result = "comparison.csv" if config.form == "variants" else "metrics.json"
    begun = "checkpoints/*.ckpt" if config.form == "fit" else "*/**/config.yaml"  # a fit of a study or chain
    runs = (p.parent for p in Path("runs", *config.name.split("/")).glob("*/config.yaml"))
    unfinished = [r for r in runs if not (r / result).exists() and any(r.glob(begun))]
    return max(unfinished, key=lambda r: (r / "config.yaml").stat().st_mtime, default=None)


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it, so that no reader sees an incomplete file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


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
            stale.unlink(missing_ok=True)
        for stale in path.glob("checkpoints/*.ckpt"):
            stale.unlink()
    write_text(path / "config.yaml", to_yaml(config.plain))
    write_text(path / "environment.json", json.dumps(environment(), indent=2) + "\n")


def write_continuation(path: Path, config: Config) -> None:
    """Write the config of a run that continues, and delete its final metrics until it ends again."""
    (path / "metrics.json").unlink(missing_ok=True)
    write_text(path / "config.yaml", to_yaml(config.plain))


def write_metrics(path: Path, metrics: Mapping[str, float]) -> None:
    """Write the final metrics as one flat JSON object; a value that is not finite becomes null."""
    flat = {k: (v if math.isfinite(v) else None) for k, v in metrics.items()}
    write_text(path / "metrics.json", json.dumps(flat, indent=2) + "\n")


CURVE_HEADER = ("step", "epoch", "name", "value")


def read_curve_rows(path: Path) -> list[list[str]]:
    """Return the rows of a `metrics.csv` without its header, and without a row that a kill cut off."""
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    rows = list(csv.reader(whole.splitlines()))
    return [row for row in rows[1:] if len(row) == len(CURVE_HEADER) and row[0].isdecimal() and row[3]]


def read_curves(run_dir: Path, x: Literal["step", "epoch"] = "step") -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) or (epoch, value) pairs by logged name; empty where there is no `metrics.csv`."""
    curves: dict[str, list[tuple[int, float]]] = {}
    if (run_dir / "metrics.csv").is_file():
        for step, epoch, name, value in read_curve_rows(run_dir / "metrics.csv"):
            place = int(step) if x == "step" else int(epoch or 0) + 1
            curves.setdefault(name, []).append((place, float(value)))
    return curves


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

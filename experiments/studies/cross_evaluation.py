"""Test every fit of a chain on the data of every fit, to see what a model has learned and forgotten."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.config.cross_evaluation import CrossEvaluationConfig
from experiments.config.root import Config
from experiments.errors import UserError
from experiments.evaluate.on_data import evaluate
from experiments.studies.tasks import Stage, Task
from experiments.training import run_directory

TABLE = "cross_evaluation.csv"
COSTS = ("trained_parameters", "fit_seconds", "peak_memory_mb")
"""Results of a fit that the table shows too."""


class CrossEvaluation(Task):
    """Write a table with a row for each fit: its test metrics on the data of each fit, and its costs."""

    settings: CrossEvaluationConfig

    def check(self, earlier: Mapping[str, Config]) -> None:
        """Check that there are fits, all on the same kind of data."""
        names = {config.data.name for config in earlier.values() if config.task is None}
        if len(names) != 1:
            raise UserError(f"cross_evaluation needs earlier fits on one kind of data, got {sorted(names)}")

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Test the best state of each fit; fits with the same data share a column."""
        fits = {name: stage for name, stage in stages.items() if stage.config.task is None}
        data: dict[str, Any] = {}
        for name, stage in fits.items():
            if stage.config.plain["data"] not in data.values():
                data[name] = stage.config.plain["data"]
        metrics: dict[str, float] = {}
        rows: list[list[object]] = []
        for name, stage in fits.items():
            row: dict[str, object] = {"fit": name}
            for place, settings in data.items():
                overrides = list(_overrides(settings, stage.config.plain["data"]))
                say(f"{name} on the data of {place}")
                for key, value in evaluate(stage.run_dir, *overrides).items():
                    metrics[f"{name}_on_{place}/{key}"] = row[f"{key} on {place}"] = value
            costs = run_directory.read_metrics(stage.run_dir)
            costs.setdefault("trained_parameters", costs["parameters"])
            row |= {key: costs[key] for key in COSTS}
            row["weights_mb"] = _weights_mb(stage.run_dir)
            rows = rows or [list(row)]
            rows.append(list(row.values()))
        run_directory.write_csv(run_dir / TABLE, rows)
        return metrics


def _overrides(wanted: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    """Yield the overrides that turn a fit's data into the wanted data."""
    for key, value in wanted.items():
        if value != own.get(key):
            yield f"data.{key}={json.dumps(value, ensure_ascii=False)}"


def _weights_mb(run_dir: Path) -> float:
    """Return the size of a fit's adapter, or of all its weights if it has none."""
    from experiments.training import checkpoint

    adapter = run_dir / "adapter" / "adapter_model.safetensors"
    if adapter.is_file():
        return adapter.stat().st_size / 1e6
    state = checkpoint.load(run_dir / "checkpoints" / "best.ckpt")["state_dict"]
    return sum(tensor.nbytes for tensor in state.values()) / 1e6

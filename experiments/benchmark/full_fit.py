"""Fit a config with everything that a run has: callbacks, logs, validation, checkpoints, run directory."""

import tempfile
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from experiments.callbacks.exact_resume import ExactResume
from experiments.config.check import load_config
from experiments.config.root import Config
from experiments.training.fit import fit


def full_fit(experiment: Config, *watchers: Callback, **overrides: Any) -> dict[str, float]:
    """Fit a config in a temporary run directory, watched by callbacks; return the final metrics."""
    with tempfile.TemporaryDirectory() as folder:
        place = {"run_dir": str(Path(folder) / "run"), **overrides}
        return fit(load_config(experiment.plain, place), callbacks=watchers).metrics


def fit_seconds(trainer: L.Trainer) -> float:
    """Return the training time so far, as the suite counts it."""
    clock = next(c for c in trainer.callbacks if isinstance(c, ExactResume))  # type: ignore[attr-defined]
    return clock.seconds()

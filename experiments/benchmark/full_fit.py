"""Fit a config with everything that a run has: callbacks, logs, validation, checkpoints, run directory."""

import math
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from experiments.benchmark.harness import Sample, device_clock
from experiments.callbacks.exact_resume import ExactResume
from experiments.config.check import load_config
from experiments.config.root import Config
from experiments.training.fit import fit
from experiments.training.lightning_adapter import stop_after_this_batch


def full_fit(experiment: Config, *watchers: Callback, **overrides: Any) -> dict[str, float]:
    """Fit a config in a temporary run directory, watched by callbacks; return the final metrics."""
    with tempfile.TemporaryDirectory() as folder:
        place = {"run_dir": str(Path(folder) / "run"), **overrides}
        return fit(load_config(experiment.plain, place), callbacks=watchers).metrics


def fit_seconds(trainer: L.Trainer) -> float:
    """Return the training time so far, as the suite counts it."""
    clock = next(c for c in trainer.callbacks if isinstance(c, ExactResume))  # type: ignore[attr-defined]
    return clock.seconds()


class StepClock(Callback):
    """Measures the time of a fit's steps, in turns of some steps.

    Args:
        warmup: Number of steps before the first turn.
        steps: Number of steps in a turn.
        turns: Number of turns.
        ends: Whether the fit ends after the last turn.
    """

    def __init__(self, *, warmup: int, steps: int, turns: int, ends: bool = True) -> None:
        self.warmup, self.steps, self.turns, self.ends = warmup, steps, turns, ends
        self.total_steps = 0
        self._start = math.nan
        self._moments: list[float] = []

    def milliseconds(self) -> Sample | None:
        """Return the time of a step in each turn; `None` if the fit had too few steps."""
        if len(self._moments) <= self.turns:
            return None
        return Sample(tuple(1e3 * (b - a) / self.steps for a, b in pairwise(self._moments)))

    def text(self) -> str:
        """Return the median over the turns, and their range."""
        taken = self.milliseconds()
        if taken is None:
            return "too few steps"
        return f"{taken.median:.2f} ms ({min(taken.values):.2f} to {max(taken.values):.2f} ms)"

    def warmup_seconds(self) -> float:
        """Return the time from the start of training to the first turn: compilation, if there is any."""
        return self._moments[0] - self._start

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note when training starts, and how many steps it has."""
        self._start = device_clock()
        self.total_steps = int(trainer.estimated_stepping_batches)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Read the clock at the ends of turns."""
        turn, rest = divmod(trainer.global_step - self.warmup, self.steps)
        if rest or not 0 <= turn <= self.turns:
            return
        self._moments.append(device_clock())
        if self.ends and turn == self.turns:
            stop_after_this_batch(trainer)

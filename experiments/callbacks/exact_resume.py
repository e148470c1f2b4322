"""Make a resumed run equal, to the bit, to a run that was never interrupted."""

import random
import time
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from experiments.errors import UserError
from experiments.training import lightning_adapter


class ExactResume(Callback):
    """Adds to a checkpoint what Lightning leaves out, and restores it on a resume.

    Lightning saves weights, optimizers, schedules, the states of loaders, and loop counters. This callback
    adds the states of the random number generators of every rank, the config, the description of the data and
    the time. It corrects the loop counters (`lightning_adapter.correct_counters`) and, between two epochs,
    restores the loaders (`lightning_adapter.start_next_epoch`).

    Args:
        resolved: The result of `experiments.training.trainer.resolved`.
    """

    def __init__(
        self, config: dict[str, Any], info: dict[str, Any], resolved: dict[str, Any] | None = None
    ) -> None:
        self.config = config
        self.info = info
        self.resolved = resolved or {}
        self.fit_seconds = 0.0
        self.resumed_step: int | None = None
        self._started: float | None = None
        self._random_states: list[dict[str, Any]] | None = None
        self._between_epochs = False
        self._loader_states: list[Any] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of `fit_seconds`; a resumed run continues it."""
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds of training so far, including those before a resume."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self.fit_seconds + running

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self.fit_seconds = self.seconds()
        self._started = None

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the epoch within which a fit had ended before it was resumed."""
        never_started = self._random_states is not None
        if never_started and not self._between_epochs:
            lightning_adapter.count_begun_epoch(trainer)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add config, data description, random states and time; correct the loop counters."""
        checkpoint["config"] = self.config
        checkpoint["info"] = self.info
        checkpoint["resolved"] = self.resolved
        checkpoint["random_states"] = _every_rank(random_state())
        checkpoint["fit_seconds"] = self.seconds()
        checkpoint["world_size"] = trainer.world_size
        lightning_adapter.correct_counters(checkpoint)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Read what was saved; the random states are restored when training starts."""
        if trainer.state.fn != "fit":
            return
        self._between_epochs = lightning_adapter.is_between_epochs(checkpoint)
        if not self._between_epochs and checkpoint["world_size"] != trainer.world_size:
            raise UserError(
                f"this checkpoint was saved within an epoch of {checkpoint['world_size']} process(es), so "
                f"{trainer.world_size} cannot continue it; use as many devices as before"
            )
        self._loader_states = lightning_adapter.loader_states(checkpoint)
        self._random_states = checkpoint["random_states"]
        self.fit_seconds = checkpoint["fit_seconds"]
        self.resumed_step = checkpoint["global_step"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the random states and, between two epochs, the loaders."""
        if self._random_states is not None:
            set_random_state(self._random_states[min(trainer.global_rank, len(self._random_states) - 1)])
            self._random_states = None
        if self._between_epochs:
            lightning_adapter.start_next_epoch(trainer, self._loader_states)
            self._between_epochs = False


def random_state() -> dict[str, Any]:
    """Return the states of all random number generators that a run may use, as plain data."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(np.array(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states that `random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])


def _every_rank(state: dict[str, Any]) -> list[dict[str, Any]]:
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return [state]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states

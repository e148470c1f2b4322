"""Save `best.ckpt` and `last.ckpt`, and turn Ctrl-C and SIGTERM into a checkpoint to resume from."""

import math
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from experiments.callbacks.milestones import Agreement
from experiments.config.messages import nearest
from experiments.errors import Interrupted, UserError
from experiments.training import checkpoint, lightning_adapter
from experiments.training.recovery import copy_file


class Checkpoints(Checkpoint):
    """Saves at the end of each epoch and, optionally, every few steps within an epoch.

    A state is saved only where a resumed run can continue exactly: after an optimizer step within an epoch
    (and after its validation, if one is due), or when an epoch is over. A signal waits for the next such
    moment. With several processes it waits up to a second longer, until all of them have heard of it. A
    second signal, at least a second later, stops the process at once.

    Args:
        folder: The folder of the two files.
        monitor: The validation metric that chooses `best.ckpt`.
        mode: `"min"` or `"max"`.
        every_n_steps: Optimizer steps between two saves within an epoch; `None` saves at its end only.
    """

    def __init__(
        self, *, folder: Path, monitor: str, mode: str = "min", every_n_steps: int | None = None
    ) -> None:
        self.folder = folder
        self.monitor = monitor
        self.mode = mode
        self.every_n_steps = every_n_steps
        self.best_score: float | None = None
        self.best_metrics: dict[str, float] = {}
        self.best_step: int | None = None
        self._improved = False
        self._signal: int | None = None
        self._signalled = 0.0
        self._handlers: dict[int, Any] = {}
        self._stop = Agreement()

    @property
    def best(self) -> Path:
        """Path of the best state by validation."""
        return self.folder / "best.ckpt"

    @property
    def last(self) -> Path:
        """Path of the newest state."""
        return self.folder / "last.ckpt"

    # Signals ------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over Ctrl-C and SIGTERM, after Lightning has set its own handlers."""
        if trainer.is_global_zero and self.folder.exists():
            for half_written in self.folder.glob(".*.ckpt.*"):  # left by a killed run
                half_written.unlink(missing_ok=True)
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._handlers[signum] = signal.signal(signum, self._note)
        lightning_adapter.skip_signal_broadcast(trainer)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        # A terminal and a parent process may both pass on one Ctrl-C; only a later signal counts as a second.
        if self._signal is not None and time.monotonic() - self._signalled > 1:
            for each in self._handlers:
                signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(signum)
        elif self._signal is None:
            self._signal, self._signalled = signum, time.monotonic()

    def _restore_handlers(self) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._handlers.clear()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the signals back."""
        self._restore_handlers()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._restore_handlers()

    def _stop_asked(self, trainer: L.Trainer, *, now: bool = False) -> bool:
        """Return whether any rank was asked to stop; all must leave at the same step."""
        return self._stop.any_rank(trainer, self._signal is not None, now=now)

    # Saving -------------------------------------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within an epoch if a save is due or a signal came."""
        stop = self._stop_asked(trainer)
        is_last_epoch = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.should_stop or is_last_epoch:
            lightning_adapter.validate_this_epoch(trainer)  # the final weights may be the best
        if trainer.is_last_batch or trainer.should_stop or lightning_adapter.validation_is_due(trainer):
            return  # the validation or the end of the epoch that follows will save
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # accumulated gradients are not part of a checkpoint
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if stop or due:
            trainer.save_checkpoint(self.last)
        if stop:
            self._leave()

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the name of the monitored metric before the first epoch."""
        check_monitor(self.monitor, trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare with the best validation so far, and save unless the end of the epoch follows."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        check_monitor(self.monitor, trainer)
        score = float(trainer.callback_metrics[self.monitor])
        best = self.best_score
        if (
            best is None
            or (math.isnan(best) and not math.isnan(score))  # every comparison with NaN is false
            or (score < best if self.mode == "min" else score > best)
        ):
            self.best_score = score
            self.best_metrics = {
                k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val")
            }
            self.best_step = trainer.global_step
            self._improved = True
        if not (trainer.is_last_batch or trainer.should_stop):
            self._save_validated(trainer)
            if self._stop_asked(trainer, now=True):
                self._leave()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the finished epoch, as the best if its validation was the best."""
        self._save_validated(trainer)
        if self._stop_asked(trainer, now=True):
            self._leave()

    def _save_validated(self, trainer: L.Trainer) -> None:
        improved, self._improved = self._improved, False
        # The best first: after a kill between the two files, a run resumes from the newer one, `best`.
        trainer.save_checkpoint(self.best if improved else self.last)
        if improved and trainer.is_global_zero:
            # A copy, not a link: damage in place hits one file only. It is not flushed to the disk, because
            # the same state is safe in `best`.
            copy_file(self.best, self.last)

    def adopt_last(self, trainer: L.Trainer, measured: Mapping[str, float]) -> None:
        """Make the last state the best one, if the fit has ended and the file of its best state is lost.

        Args:
            trainer: The Trainer of the fit.
            measured: The metrics of a validation of the last state.
        """
        state = checkpoint.load(self.last)
        self.best_metrics = {key: float(value) for key, value in measured.items()}
        self.best_score, self.best_step = self.best_metrics[self.monitor], state["global_step"]
        state["callbacks"]["Checkpoints"] = self.state_dict()
        if trainer.is_global_zero:
            checkpoint.AtomicCheckpointIO().save_checkpoint(state, self.best)
            copy_file(self.best, self.last)

    def _leave(self) -> None:
        raise Interrupted(self._signal or signal.SIGTERM, self.folder.parent, self.last)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, its metrics and its step."""
        return {
            "best_score": self.best_score,
            "best_metrics": self.best_metrics,
            "best_step": self.best_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, its metrics and its step."""
        self.best_score = state_dict["best_score"]
        self.best_metrics = dict(state_dict["best_metrics"])
        self.best_step = state_dict.get("best_step")  # older checkpoints have none


def check_monitor(monitor: str, trainer: L.Trainer) -> None:
    """Check that validation logs the monitored metric.

    Raises:
        UserError: It does not.
    """
    logged = [k for k in trainer.callback_metrics if isinstance(trainer.callback_metrics[k], torch.Tensor)]
    if monitor not in logged:
        raise UserError(
            f"trainer.monitor = {monitor!r} is not logged in validation{nearest(monitor, logged)}; "
            f"logged: {', '.join(sorted(logged)) or 'nothing'}"
        )

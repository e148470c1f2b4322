"""Keeps `best.ckpt` and `last.ckpt`, and turns Ctrl-C and SIGTERM into a checkpoint to resume from."""

import math
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from experiments.callbacks.agreement import Agreement
from experiments.config.registry import nearest
from experiments.errors import Interrupted, UserError
from experiments.training import lightning_adapter


class Checkpoints(Checkpoint):
    """Saves at each epoch's end and, if asked, every so many steps within an epoch.

    A state is only ever saved where a resumed run can take it up exactly: after an optimizer step that is
    not an epoch's last, with its validation done where one is due, or when an epoch is over. A signal waits
    for the next such moment (with several processes, up to a second longer, until all know of it); a second
    signal, a second later or more, doesn't wait.

    Args:
        folder: Where the two files go.
        monitor: The validation metric that chooses `best.ckpt`.
        mode: `"min"` or `"max"`.
        every_n_steps: Optimizer steps between two saves within an epoch.
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
        self._improved = False
        self._signal: int | None = None
        self._signalled = 0.0
        self._handlers: dict[int, Any] = {}
        self._stop = Agreement()

    @property
    def best(self) -> Path:
        """The file of the best validated state."""
        return self.folder / "best.ckpt"

    @property
    def last(self) -> Path:
        """The file of the newest state."""
        return self.folder / "last.ckpt"

    # Signals ------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over Ctrl-C and SIGTERM, after Lightning has set its own handlers."""
        if trainer.is_global_zero and self.folder.exists():
            for half_written in self.folder.glob(".*.ckpt.*"):  # by a run that was killed
                half_written.unlink(missing_ok=True)
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers; elsewhere the defaults stay
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._handlers[signum] = signal.signal(signum, self._note)
        lightning_adapter.skip_signal_broadcast(trainer)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        # A terminal and a parent process may both pass one Ctrl-C on: only a later signal is a second one.
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
        """Whether any rank was asked to stop: all must leave at the same step."""
        return self._stop.any_rank(trainer, self._signal is not None, now=now)

    # Saving -------------------------------------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within an epoch: on request, or because a signal came."""
        stop = self._stop_asked(trainer)
        is_last_epoch = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.should_stop or is_last_epoch:
            lightning_adapter.validate_this_epoch(trainer)  # the final weights may be the best
        if trainer.is_last_batch or trainer.should_stop or lightning_adapter.validation_is_due(trainer):
            return  # what comes next will save: a validation, or the epoch's end
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # half-summed gradients can't be saved
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if stop or due:
            trainer.save_checkpoint(self.last)
        if stop:
            self._leave()

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the monitored metric's name now, not after a whole epoch."""
        check_monitor(self.monitor, trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note whether this validation is the best so far, and save it if the epoch's end isn't next."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        check_monitor(self.monitor, trainer)
        score = float(trainer.callback_metrics[self.monitor])
        best = self.best_score
        if (
            best is None
            or (math.isnan(best) and not math.isnan(score))  # against which nothing else would be better
            or (score < best if self.mode == "min" else score > best)
        ):
            self.best_score = score
            self.best_metrics = {
                k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val")
            }
            self._improved = True
        if not (trainer.is_last_batch or trainer.should_stop):
            self._save_validated(trainer)
            if self._stop_asked(trainer, now=True):
                self._leave()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the finished epoch, and keep it as the best if it is."""
        self._save_validated(trainer)
        if self._stop_asked(trainer, now=True):
            self._leave()

    def _save_validated(self, trainer: L.Trainer) -> None:
        improved, self._improved = self._improved, False
        # The best comes first: killed between the two, a run resumes from the newer file, which knows of it.
        trainer.save_checkpoint(self.best if improved else self.last)
        if improved and trainer.is_global_zero:
            temporary = self.last.with_name(f".{self.last.name}.{os.getpid()}")
            try:
                os.link(self.best, temporary)  # neither file is ever changed in place
            except OSError:  # not every file system has links
                shutil.copyfile(self.best, temporary)
            os.replace(temporary, self.last)

    def _leave(self) -> None:
        raise Interrupted(self._signal or signal.SIGTERM, self.folder.parent, self.last)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know of the best state so far."""
        return {"best_score": self.best_score, "best_metrics": self.best_metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.best_score = state_dict["best_score"]
        self.best_metrics = dict(state_dict["best_metrics"])


def check_monitor(monitor: str, trainer: L.Trainer) -> None:
    """Raise a UserError when validation doesn't log the monitored metric."""
    logged = [k for k in trainer.callback_metrics if isinstance(trainer.callback_metrics[k], torch.Tensor)]
    if monitor not in logged:
        raise UserError(
            f"trainer.monitor = {monitor!r} is not logged in validation{nearest(monitor, logged)}; "
            f"logged: {', '.join(sorted(logged))}"
        )

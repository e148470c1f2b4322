"""The training curve: loss, accuracy, learning rate, gradient norm and throughput, every so many steps."""

import math
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from experiments.callbacks.hooks import skip_unused_hooks
from experiments.callbacks.tokens import tokens_per_sample
from experiments.errors import RunError


@skip_unused_hooks
class TrainingCurve(Callback):
    """Averages what training steps return and logs it every so many optimizer steps.

    Logging a value in every step would wait for the device in every step. This callback only adds to running
    sums, and reads them when a point of the curve is due. Its sums are part of a checkpoint, so that the
    resumed curve is the uninterrupted one.

    Args:
        every_n_steps: Optimizer steps between two points of the curve.

    Raises:
        RunError: The loss is no longer finite: names step, learning rate and the checkpoint to go back to.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._loss: Tensor | float = 0.0
        self._correct: Tensor | float = 0.0
        self._batches = 0
        self._labelled = 0
        self._logged_step = 0
        self.point: dict[str, float] = {}
        """The last point of the curve, by name; each point is a dictionary of its own."""
        self._samples = self._total_samples = 0
        self._seconds = 0.0
        self._since = time.perf_counter()

    def throughput(self, pl_module: L.LightningModule) -> dict[str, float]:
        """Samples, and of text tokens, per second of training, with validation left out."""
        samples = self._total_samples / self._seconds if self._seconds else 0.0
        tokens = tokens_per_sample(pl_module)
        return {"samples_per_second": samples} | ({"tokens_per_second": samples * tokens} if tokens else {})

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the throughput."""
        self._total_samples, self._seconds = 0, 0.0
        self._samples, self._since = 0, time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave what came between two epochs out of the throughput."""
        self._samples, self._since = 0, time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave a validation within an epoch out of the throughput."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._lap()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Training goes on."""
        self._since = time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the norm of the whole gradient, before any clipping, where a point is due."""
        if (trainer.global_step + 1) % self.every_n_steps:
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self._log(trainer, {"train/gradient_norm": norm.item()}, trainer.global_step + 1)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the step to the sums; log them where a point is due."""
        # Lightning has divided it by the batches whose gradients are summed.
        loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
        self._loss = self._loss + loss
        self._batches += 1
        targets = outputs.get("targets")
        if targets is not None:
            self._samples += len(targets) * trainer.world_size
            logits = outputs.get("logits")
            if logits is not None and logits.ndim == 2 and targets.ndim == 1:
                self._correct = self._correct + (logits.argmax(1) == targets).sum()
                self._labelled += len(targets)
        # Reading a value off a GPU waits for it; on a CPU each step can be checked for nothing.
        if loss.device.type == "cpu" and not math.isfinite(loss.item()):
            self._refuse(loss.item(), trainer)
        step = trainer.global_step
        if step != self._logged_step and step % self.every_n_steps == 0:
            self._logged_step = step
            self._point(trainer, step)
        if trainer.is_last_batch:
            self._lap()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the loss before the epoch is saved."""
        if self._batches and not math.isfinite(float(self._loss)):
            self._refuse(float(self._loss), trainer)

    def _point(self, trainer: L.Trainer, step: int) -> None:
        loss = float(self._loss) / self._batches
        if not math.isfinite(loss):
            self._refuse(loss, trainer)
        values = {"train/loss": loss, "train/learning_rate": _learning_rate(trainer)}
        if self._labelled:
            values["train/accuracy"] = float(self._correct) / self._labelled
        if self._samples:
            tokens = tokens_per_sample(trainer.lightning_module)
            unit = "tokens" if tokens else "samples"
            values[f"train/{unit}_per_second"] = self._lap() * max(1, tokens)
        self._log(trainer, values, step)
        self.point = values
        for key in ("train/loss", "train/accuracy"):
            if key in values:
                trainer.callback_metrics[key] = torch.tensor(values[key])
        self._loss, self._correct, self._batches, self._labelled = 0.0, 0.0, 0, 0

    def _lap(self) -> float:
        """Samples per second since the last lap."""
        now = time.perf_counter()
        seconds, samples = now - self._since, self._samples
        self._since, self._samples = now, 0
        self._seconds += seconds
        self._total_samples += samples
        return samples / max(seconds, 1e-9)

    def _log(self, trainer: L.Trainer, values: dict[str, float], step: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=step)

    def _refuse(self, loss: float, trainer: L.Trainer) -> None:
        last = getattr(trainer.checkpoint_callback, "last", None)
        good = (
            f"the last good checkpoint is {last}"
            if last and last.exists()
            else "no checkpoint was written yet"
        )
        raise RunError(
            f"the loss became {loss} at step {trainer.global_step} with learning rate "
            f"{_learning_rate(trainer):.3g}; lower optimizer.lr or set trainer.gradient_clip_norm; {good}"
        )

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to save a state whose loss is no longer finite; on a GPU it may not have been read yet."""
        if not math.isfinite(float(self._loss)):
            self._refuse(float(self._loss), trainer)

    def state_dict(self) -> dict[str, Any]:
        """The running sums."""
        return {
            "loss": float(self._loss),
            "correct": float(self._correct),
            "batches": self._batches,
            "labelled": self._labelled,
            "logged_step": self._logged_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the running sums."""
        # As a float32 tensor the sum goes on being rounded as it was.
        self._loss = torch.tensor(state_dict["loss"])
        self._correct = state_dict["correct"]
        self._batches = state_dict["batches"]
        self._labelled = state_dict["labelled"]
        self._logged_step = state_dict["logged_step"]


def _learning_rate(trainer: L.Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])

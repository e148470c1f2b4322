"""Log the training curve: loss, accuracy, learning rate, gradient norm and throughput."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from experiments.callbacks.pace import batch_size
from experiments.errors import RunError
from experiments.training.lightning_adapter import show_metrics

MOST_PENDING, MOST_HELD = 50, 2**24
"""Largest number of steps, and of elements of their logits, that are kept unread."""


@dataclass
class _Pending:
    """Results of steps that are not read yet, one list entry per step."""

    losses: list[Tensor] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)  # (B, K), of classifiers
    targets: list[Tensor] = field(default_factory=list)  # (B,)
    curves: list[dict[str, Tensor]] = field(default_factory=list)  # own curves of the module
    held: int = 0  # elements of the logits


class TrainingCurve(Callback):
    """Averages the results of training steps and logs them every `every_n_steps` optimizer steps.

    A fit with fewer steps has one point, at its last step.

    A module may return more curves in the entry `curves` of a step: scalars by name, which are averaged like
    the loss, each over the steps that have it.

    Reading a value in each step would wait for the device in each step. The loss and logits of a step are
    therefore kept, and read together when a point of the curve is due, a checkpoint is written, or many are
    waiting. The running sums are part of a checkpoint, so that a resumed curve equals an uninterrupted one.

    Raises:
        RunError: The loss is no longer finite. The message names the first such step, its learning rate and
            the last good checkpoint. No checkpoint is written after that step.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._pending = _Pending()
        self._broken: tuple[float, int, float] | None = (
            None  # first infinite or NaN loss, its step and learning rate
        )
        self._loss = 0.0
        self._correct = self._batches = self._labelled = 0
        self._curves: dict[str, list[float]] = {}  # sum and number of steps, by name
        self._logged_step = 0
        self._epoch_step = 0  # the step at which this epoch began
        self.point: dict[str, float] = {}
        """The last point of the curve by name; each point is a new dictionary."""
        self._samples = self._total_samples = 0
        self._seconds = 0.0
        self._since, self._since_step = time.perf_counter(), 0
        self._group: dict[str, Any] = {"lr": math.nan}
        self._factor = 1

    def throughput(self, pl_module: L.LightningModule) -> dict[str, float]:
        """Return the samples (and tokens, for text) per second of training, without validation."""
        samples = self._total_samples / self._seconds if self._seconds else 0.0
        tokens = tokens_per_sample(pl_module)
        return {"samples_per_second": samples} | ({"tokens_per_second": samples * tokens} if tokens else {})

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start the clock of the throughput, and look up what every step needs."""
        self._group = trainer.optimizers[0].param_groups[0]
        self._factor = trainer.accumulate_grad_batches
        steps = pl_module.total_steps() if hasattr(pl_module, "total_steps") else trainer.max_steps
        if steps > 0:  # a plain module may train for an unknown number of steps
            self.every_n_steps = min(self.every_n_steps, steps)
        self._total_samples, self._seconds = 0, 0.0
        self._start_lap(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Exclude the time between two epochs from the throughput."""
        self._epoch_step = trainer.global_step
        self._start_lap(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Exclude a validation within an epoch from the throughput."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._lap(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock again."""
        self._start_lap(trainer)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the norm of the whole gradient before clipping, if a point is due."""
        if (trainer.global_step + 1) % self.every_n_steps:
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        log_values(trainer, {"train/gradient_norm": norm.item()}, trainer.global_step + 1)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the results of the step; read and log them if a point is due."""
        pending, step = self._pending, trainer.global_step
        outputs = outputs or {}  # a plain module may optimize by itself and return nothing
        if "loss" in outputs:
            pending.losses.append(outputs["loss"])
            pending.steps.append(step)
            pending.rates.append(self._group["lr"])
            pending.curves.append(outputs.get("curves", {}))
        targets = outputs.get("targets")
        self._samples += batch_size(batch) if targets is None else len(targets)
        if targets is not None:
            logits = outputs.get("logits")
            if logits is not None and logits.ndim == 2 and targets.ndim == 1:
                pending.logits.append(logits.detach())
                pending.targets.append(targets)
                pending.held += logits.numel()
        if step != self._logged_step and step % self.every_n_steps == 0:
            self._logged_step = step
            self._read(trainer)
            self._point(trainer, step)
        elif len(pending.losses) >= MOST_PENDING or pending.held >= MOST_HELD:
            self._read(trainer)
        if trainer.is_last_batch:
            self._lap(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the loss before the epoch is saved; show the means so far if the epoch has no point."""
        self._read(trainer)
        if self._logged_step <= self._epoch_step:
            _show(trainer, self._means())

    def _read(self, trainer: L.Trainer) -> None:
        """Read the pending results and stop if a loss is not finite."""
        self._take_in()
        if self._broken is not None:
            self._refuse(trainer, *self._broken)

    def _take_in(self) -> None:
        """Add the pending losses one by one, so that the sum does not depend on when they are read."""
        pending, self._pending = self._pending, _Pending()
        if not pending.losses:
            return
        for loss, step, rate in zip(
            torch.stack(pending.losses).flatten().tolist(), pending.steps, pending.rates, strict=True
        ):
            # Lightning has divided the loss by the number of accumulated batches.
            self._loss += loss * self._factor
            if self._broken is None and not math.isfinite(loss):
                self._broken = (loss, step, rate)
        self._batches += len(pending.losses)
        for curves in pending.curves:
            for name, value in curves.items():
                total, steps = self._curves.get(name, [0.0, 0])
                self._curves[name] = [total + float(value), steps + 1]
        if pending.targets:
            targets = torch.cat(pending.targets)
            self._correct += int((torch.cat(pending.logits).argmax(1) == targets).sum())
            self._labelled += len(targets)

    def _point(self, trainer: L.Trainer, step: int) -> None:
        values = {**self._means(), "train/learning_rate": self._group["lr"]}
        values |= {f"train/{name}": total / steps for name, (total, steps) in self._curves.items()}
        steps, samples, seconds = self._lap(trainer)
        values["train/steps_per_second"] = steps / seconds
        if samples:
            tokens = tokens_per_sample(trainer.lightning_module)
            unit = "tokens" if tokens else "samples"
            values[f"train/{unit}_per_second"] = samples / seconds * max(1, tokens)
        log_values(trainer, values, step)
        self.point = values
        _show(trainer, values)
        self._loss, self._correct, self._batches, self._labelled, self._curves = 0.0, 0, 0, 0, {}

    def _means(self) -> dict[str, float]:
        """Return the means of loss and accuracy since the last point."""
        means = {"train/loss": self._loss / self._batches} if self._batches else {}
        if self._labelled:
            means["train/accuracy"] = self._correct / self._labelled
        return means

    def _start_lap(self, trainer: L.Trainer) -> None:
        self._samples, self._since, self._since_step = 0, time.perf_counter(), trainer.global_step

    def _lap(self, trainer: L.Trainer) -> tuple[int, int, float]:
        """Return the steps, the samples of all processes and the seconds since the last call."""
        steps, samples = trainer.global_step - self._since_step, self._samples * trainer.world_size
        seconds = time.perf_counter() - self._since
        self._start_lap(trainer)
        self._seconds += seconds
        self._total_samples += samples
        return steps, samples, max(seconds, 1e-9)

    def _refuse(self, trainer: L.Trainer, loss: float, step: int, rate: float) -> None:
        last = getattr(trainer.checkpoint_callback, "last", None)
        good = (
            f"the last good checkpoint is {last}"
            if last and last.exists()
            else "no checkpoint was written yet"
        )
        raise RunError(
            f"the loss became {loss} at step {step} with learning rate {rate:.3g}; lower optimizer.lr or set "
            f"trainer.gradient_clip_norm; {good}"
        )

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Read the pending losses first, so that no state with an infinite or NaN loss is saved."""
        self._read(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the running sums."""
        self._take_in()
        return {
            "loss": self._loss,
            "correct": self._correct,
            "batches": self._batches,
            "labelled": self._labelled,
            "curves": {name: list(sums) for name, sums in self._curves.items()},
            "logged_step": self._logged_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the running sums."""
        self._loss = state_dict["loss"]
        self._correct = int(state_dict["correct"])
        self._batches = state_dict["batches"]
        self._labelled = state_dict["labelled"]
        self._curves = dict(state_dict.get("curves", {}))  # older checkpoints have none
        self._logged_step = state_dict["logged_step"]


def _show(trainer: L.Trainer, values: dict[str, float]) -> None:
    """Give the progress bar the values that it shows."""
    shown = {k: torch.tensor(v) for k, v in values.items() if k in ("train/loss", "train/accuracy")}
    show_metrics(trainer, shown)


def log_values(trainer: L.Trainer, values: dict[str, float], step: int) -> None:
    """Write scalars to all loggers: TensorBoard and `metrics.csv`."""
    for logger in trainer.loggers:
        logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=step)


def tokens_per_sample(pl_module: L.LightningModule) -> int:
    """Return the number of tokens in a training sample of the module's data; 0 for data without tokens."""
    info = getattr(pl_module, "info", None)
    return int(getattr(info, "train_length", getattr(info, "context_length", 0)))

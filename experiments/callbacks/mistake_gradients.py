"""Log how strongly the objective corrects the confident mistakes of a classifier."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from experiments.callbacks.training_curve import log_values

CONFIDENT = 0.9
"""Smallest probability of the wrong class that makes a mistake a confident one."""


class MistakeGradients(Callback):
    """Logs the gradient of the objective at confident mistakes, and the share of such mistakes.

    A training example is a confident mistake if a wrong class has a probability above 0.9.
    `train/mistake_gradient` is the mean of |∂L/∂z| over them, where z are the K outputs for one example and L
    is its own objective. `train/confident_mistakes` is their share of the examples. Both are over the steps
    since the last point; without a confident mistake there is no gradient to log.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._sums: list[float] = [0.0, 0.0, 0.0]  # norms, mistakes, examples

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch; log if a point is due."""
        logits, targets = outputs.get("logits"), outputs.get("targets")
        if logits is None or logits.ndim != 2 or targets.ndim != 1:
            return
        norms = mistake_gradients(pl_module, logits, targets)
        found = (norms.sum().item(), len(norms), len(targets))
        self._sums = [total + new for total, new in zip(self._sums, found, strict=True)]
        step, last = trainer.global_step, (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if step % self.every_n_steps == 0 and (last or trainer.is_last_batch):
            total, mistakes, examples = self._sums
            values = {"train/confident_mistakes": mistakes / examples}
            if mistakes:
                values["train/mistake_gradient"] = total / mistakes
            log_values(trainer, values, step)
            self._sums = [0.0, 0.0, 0.0]

    def state_dict(self) -> dict[str, Any]:
        """Return the running sums."""
        return {"sums": self._sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the running sums."""
        self._sums = list(state_dict["sums"])


def mistake_gradients(pl_module: Any, logits: Tensor, targets: Tensor) -> Tensor:
    """Return |∂L/∂z| of each confident mistake, (M,), from logits (B, K) and targets (B,)."""
    probability, guess = logits.float().softmax(-1).max(-1)
    wrong = (guess != targets) & (probability > CONFIDENT)
    outputs = logits[wrong] if pl_module.num_outputs > 1 else logits[wrong, 1:]
    outputs = outputs.detach().float().requires_grad_()
    if not len(outputs):
        return outputs.new_zeros(0)
    with torch.enable_grad():
        # The objective is a mean over examples: times their number, each row has its own gradient.
        (gradient,) = torch.autograd.grad(
            pl_module.objective(outputs, targets[wrong]) * len(outputs), outputs
        )
    return gradient.norm(dim=-1)

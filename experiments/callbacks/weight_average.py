"""An exponential moving average of the weights, which validation, tests and checkpoints see."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor


class WeightAverage(Callback):
    r"""Keeps :math:`\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta` after each optimizer step.

    The decay warms up as :math:`\min(d, (1 + n)/(10 + n))` after n steps, so that the random start is soon
    forgotten. Floating-point buffers (the running statistics of batch norm) are averaged like weights.
    Validation sees the average, and a checkpoint's `state_dict` is the average; the weights in training are
    beside it, for a resumed run. Lightning's own `WeightAveraging` copies the whole module, swaps metric
    states along with the weights and updates tensor by tensor; this one is a single fused update a step.

    Args:
        decay: d in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._live: list[Tensor] = []
        self._average: list[Tensor] = []
        self._names: list[str] = []
        self._saved: dict[str, Tensor] | None = None
        self._swapped = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the average at the weights, or where the checkpoint left it."""
        live = averaged_tensors(pl_module)
        source = live if self._saved is None else self._saved
        self._names, self._live = list(live), list(live.values())
        self._average = [source[name].detach().to(live[name].device, copy=True) for name in live]
        self._saved = None
        self._swapped = False

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the average towards the weights, once per optimizer step."""
        if trainer.global_step <= self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._average, self._live, 1 - decay)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate with the average."""
        if trainer.state.fn == "fit":
            self._swap()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Train on with the weights."""
        if trainer.state.fn == "fit" and self._swapped:
            self._swap()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leave the module with its own weights."""
        self.on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the module with the average, which is the result of training."""
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        kept = [tensor.clone() for tensor in self._live]
        torch._foreach_copy_(self._live, self._average)
        torch._foreach_copy_(self._average, kept)
        self._swapped = not self._swapped

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average into `state_dict` and the weights in training beside it."""
        if self._average and not self._swapped:
            checkpoint["training_state_dict"] = checkpoint["state_dict"]
            averages = dict(zip(self._names, self._average, strict=True))
            checkpoint["state_dict"] = {**checkpoint["state_dict"], **averages}
            checkpoint["averaged_steps"] = self.steps

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take both up again; Lightning has just loaded the average as if it were the weights."""
        if trainer.state.fn != "fit" or "training_state_dict" not in checkpoint:
            return
        self._saved = checkpoint["state_dict"]
        self.steps = checkpoint["averaged_steps"]
        pl_module.load_state_dict(checkpoint["training_state_dict"])


def averaged_tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent floating-point buffers by name, as live tensors."""
    return {k: v for k, v in module.state_dict(keep_vars=True).items() if v.is_floating_point()}

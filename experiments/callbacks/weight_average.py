"""Keep an exponential moving average of the weights for validation, test and checkpoints."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor


class WeightAverage(Callback):
    """Updates the average θ̄ ← d·θ̄ + (1 − d)·θ after each optimizer step; the decay d is in [0, 1).

    The decay warms up as min(d, (1 + n) / (10 + n)) after n steps, so the random start is soon forgotten.
    Floating-point buffers (the running statistics of batch norm) are averaged like weights. Validation uses
    the average, and the `state_dict` of a checkpoint is the average. The training weights are saved too, for
    a resumed run. Lightning's own `WeightAveraging` copies the whole module, also swaps the states of
    metrics, and updates tensor by tensor; this callback makes one fused update per step.
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
        """Start the average at the weights or at its state in the checkpoint."""
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
        """Continue training with the weights."""
        if trainer.state.fn == "fit" and self._swapped:
            self._swap()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Restore the weights."""
        self.on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the average in the module as the result of training."""
        self._swap()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the average in the module also where a resumed fit had nothing left to train."""
        if not self._swapped:
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
        """Save the average as `state_dict`, and the training weights as another entry."""
        if self._average and not self._swapped:
            checkpoint["training_state_dict"] = checkpoint["state_dict"]
            averages = dict(zip(self._names, self._average, strict=True))
            checkpoint["state_dict"] = {**checkpoint["state_dict"], **averages}
            checkpoint["averaged_steps"] = self.steps

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore both; Lightning has just loaded the average into the weights."""
        if trainer.state.fn != "fit" or "training_state_dict" not in checkpoint:
            return
        self._saved = checkpoint["state_dict"]
        self.steps = checkpoint["averaged_steps"]
        pl_module.load_state_dict(checkpoint["training_state_dict"])


def averaged_tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    """Return parameters and persistent floating-point buffers by name, without copying them."""
    return {k: v for k, v in module.state_dict(keep_vars=True).items() if v.is_floating_point()}

"""Log histograms of the weights and gradients to TensorBoard."""

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from experiments.callbacks.summary import is_sharded
from experiments.callbacks.tensorboard import writer


class Histograms(Callback):
    """Logs `weights/<name>` and `gradients/<name>` at the first step and every `every_n_steps` steps.

    The gradients are those before clipping, and the weights those before the step. Values that are not finite
    are left out. Sharded weights are not logged.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the histograms, if a point is due."""
        step = trainer.global_step + 1
        to = writer(trainer)
        if to is None or is_sharded(trainer) or (step > 1 and step % self.every_n_steps):
            return
        for name, parameter in pl_module.named_parameters():
            if parameter.requires_grad:
                _add(to, f"weights/{name}", parameter, step)
                _add(to, f"gradients/{name}", parameter.grad, step)


def _add(to: SummaryWriter, tag: str, values: Tensor | None, step: int) -> None:
    if values is None:
        return
    values = values.detach().float()
    values = values[values.isfinite()]
    if values.numel():
        to.add_histogram(tag, values.cpu().numpy(), step)

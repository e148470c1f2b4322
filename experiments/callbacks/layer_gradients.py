"""Log the gradient norm of each layer: where gradients vanish or explode on the way down."""

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from experiments.callbacks.training_curve import log_values


class LayerGradients(Callback):
    """Logs `layer_gradient/01`, `layer_gradient/02`, …: the gradient norm of each weight matrix.

    The matrices and convolution filters count from the input to the output, in the order of the parameters.
    The norm is that before clipping. It is logged at the first step and every `every_n_steps` steps.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the norms, if a point is due."""
        step = trainer.global_step + 1
        if step > 1 and step % self.every_n_steps:
            return
        matrices = [p for p in pl_module.parameters() if p.ndim > 1 and p.requires_grad]
        values = {
            f"layer_gradient/{number:02}": torch.nn.utils.get_total_norm([matrix.grad]).item()
            for number, matrix in enumerate(matrices, start=1)
            if matrix.grad is not None
        }
        log_values(trainer, values, step)

"""Say when validation no longer improves."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from experiments.console import say

VALIDATIONS = 5
"""Number of validations without an improvement that make a plateau."""


class Plateau(Callback):
    """Says in one line that the monitored metric has not improved for five validations.

    After an improvement it counts anew. Early stopping says the same, so it is for fits without that.

    Args:
        monitor: The validation metric.
        mode: `"min"` or `"max"`.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        self.monitor = monitor
        self.sign = 1.0 if mode == "min" else -1.0
        self.best, self.best_epoch, self.waited = float("inf"), 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the best score so far, its epoch, and the number of validations since."""
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what was counted."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]
        self.best_epoch = state_dict["best_epoch"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the validation."""
        score = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or trainer.state.fn != "fit" or score is None:
            return
        if self.sign * float(score) < self.best:
            self.best, self.best_epoch, self.waited = self.sign * float(score), trainer.current_epoch + 1, 0
            return
        self.waited += 1
        if self.waited == VALIDATIONS and self.best_epoch:  # some validation was finite
            say(
                f"plateau: no better {self.monitor} in the last {VALIDATIONS} validations; the best was "
                f"{self.sign * self.best:.4g} in epoch {self.best_epoch}"
            )

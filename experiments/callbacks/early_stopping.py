"""End a fit when validation no longer improves, also after a resume."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import early_stopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from experiments.console import say
from experiments.training import lightning_adapter


class EarlyStopping(early_stopping.EarlyStopping):
    """Lightning's early stopping, whose state tells a resumed fit that it has ended.

    A fit that ended by it and was cut in its test does not train on when it is resumed. The patience is that
    of the config, not that of the checkpoint: a longer one continues a fit that has ended.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and the count of validations without an improvement."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End a resumed fit that had ended."""
        not_finite = self.stopping_reason == EarlyStoppingReason.NON_FINITE_METRIC
        if self.wait_count >= self.patience or not_finite:
            lightning_adapter.train_no_more(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say why the fit has ended, if early stopping has ended it."""
        best = f"; the best was {float(self.best_score):.4g}" if self.best_score.isfinite() else ""
        if self.stopping_reason == EarlyStoppingReason.NON_FINITE_METRIC:
            say(f"stopped early: {self.monitor} is not finite{best}")
        elif self.wait_count >= self.patience:
            say(f"stopped early: no better {self.monitor} in the last {self.wait_count} validations{best}")

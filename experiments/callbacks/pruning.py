"""End a fit of a sweep early if it is worse than the earlier fits of the sweep."""

import lightning as L
from lightning.pytorch.callbacks import Callback
from optuna.trial import Trial

from experiments.errors import EndedEarlyError


class Pruning(Callback):
    """Reports the monitored metric after each validation, and asks whether to go on.

    In a fit of several processes, rank zero has the trial. If it ends the fit, it ends the other ranks too
    (`lost_ranks`).

    Args:
        trial: The trial of the sweep; it stands for this fit.
        monitor: The validation metric that the sweep compares.

    Raises:
        EndedEarlyError: The metric is worse than the median of the earlier trials at this step.
    """

    def __init__(self, trial: Trial, monitor: str) -> None:
        self.trial = trial
        self.monitor = monitor
        self._last_step = -1

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the last step that was reported before a resume."""
        frozen = self.trial.study._storage.get_trial(self.trial._trial_id)
        self._last_step = max(frozen.intermediate_values, default=-1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report, and end the fit if it is not promising."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        step, value = trainer.global_step, float(trainer.callback_metrics[self.monitor])
        if step > self._last_step:
            self.trial.report(value, step)
        if self.trial.should_prune():
            raise EndedEarlyError(
                f"ended early at step {step}: {self.monitor} {value:.4g} is worse than the median"
            )

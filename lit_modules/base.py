"""What every LightningModule of the suite shares: its config, the data's description, its optimizer."""

import math
from types import UnionType
from typing import Any

import lightning as L
from torch.optim.lr_scheduler import LambdaLR

from datamodules.info import DataInfo
from lit_modules.optim.builders import build_optimizer, build_schedule


class LitModule(L.LightningModule):
    """A LightningModule built from a typed config and a description of the data.

    A subclass builds its network in `__init__` and says what a training, validation and test step is. A
    training step returns `{"loss", …}` with whatever callbacks may look at (`logits`, `targets`); it
    does not log, since a callback records the training curve without a synchronisation in each step.

    Args:
        config: The model's own section of the experiment config.
        info: The description of the data.
        optimizer: An optimizer config of `lit_modules.configs.optim`; needed only to train.
        schedule: A schedule config of `lit_modules.configs.optim`; `None` keeps the rate constant.

    Raises:
        ValueError: The model can't learn from this kind of data.
    """

    dashboard: str | None = None
    """Short name of the callback that draws this kind of model's dashboard."""
    info_type: type | UnionType = DataInfo
    """The descriptions of data that the model accepts."""
    data_names: tuple[str, ...] = ()
    """Names of data sets that fit, for the error message."""

    info: DataInfo

    def __init__(self, config: Any, info: Any, *, optimizer: Any = None, schedule: Any = None) -> None:
        super().__init__()
        self.info = info
        if not isinstance(info, self.info_type):
            raise ValueError(
                f"{type(self).__name__} can't learn from data of the kind {info.kind!r}; "
                f"choose data.name {', '.join(self.data_names)}"
            )
        self.config = config
        self.optimizer_config = optimizer
        self.schedule_config = schedule

    def progress_note(self) -> str:
        """A few words that the progress line of an epoch ends with, such as what the model now answers."""
        return ""

    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch on this process.

        Counted from the loader: `trainer.estimated_stepping_batches` would set the loaders up a second
        time and throw away the position that a resumed run restored.
        """
        trainer: Any = self.trainer
        batches = len(trainer.datamodule.train_dataloader())
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        return max(1, math.ceil(batches / trainer.accumulate_grad_batches))

    def total_steps(self) -> int:
        """Optimizer steps in the whole fit: the horizon of the schedule."""
        trainer = self.trainer
        limits = []
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            limits.append(trainer.max_epochs * self.steps_per_epoch())
        if trainer.max_steps >= 0:
            limits.append(trainer.max_steps)
        return max(1, min(limits, default=1))

    def configure_optimizers(self) -> Any:
        """Build the optimizer and a schedule that is a pure function of the step."""
        if self.optimizer_config is None:
            raise ValueError(
                f"{type(self).__name__} has no optimizer config, so it can be used but not trained"
            )
        optimizer = build_optimizer(self, self.optimizer_config)
        if self.schedule_config is None:
            return optimizer
        factor = build_schedule(
            self.schedule_config, total_steps=self.total_steps(), steps_per_epoch=self.steps_per_epoch()
        )
        scheduler = LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"},
        }

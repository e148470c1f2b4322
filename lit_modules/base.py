"""The base of every LightningModule: config, data description, objective, optimizer, and evaluation loop."""

import math
from types import UnionType
from typing import Any, Literal

import lightning as L
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric, Metric

from datamodules.info import DataInfo
from lit_modules.configs.objective import CrossEntropyConfig
from lit_modules.objective import CrossEntropy, Objective
from lit_modules.optim.optimizers import build_optimizer
from lit_modules.optim.schedules import build_schedule

Stage = Literal["val", "test"]


class LitModule(L.LightningModule):
    """A LightningModule built from a typed config and a description of the data.

    A subclass builds `network` in `__init__` and defines `training_step` and `evaluation_step`. It may add
    metrics in `build_metrics`. A training step returns `{"loss", …}` and what callbacks may use
    (`logits`, `targets`). It does not log: a callback records the training curve without synchronising the
    device in every step.

    Args:
        config: The model section of the experiment config.
        info: The description of the data.
        objective: What training minimises, from outputs and targets to a scalar; `default_objective` without
            one.
        optimizer: An optimizer config of `lit_modules.configs.optim`; needed only for training.
        schedule: A schedule config of `lit_modules.configs.optim`; `None` keeps the learning rate constant.

    Raises:
        ValueError: The model can't learn from this kind of data.
    """

    dashboard: str | None = None
    """Short name of the callback that draws the dashboard of this kind of model."""
    info_type: type | UnionType = DataInfo
    """The descriptions of data that the model accepts."""
    steps_are_alike: bool = True
    """Whether a training step depends on nothing but its batch, the weights and random numbers."""
    views: int = 1
    """Changed versions of each image in a batch."""
    data_names: tuple[str, ...] = ()
    """Names of data sets that fit, for the error message."""

    info: DataInfo
    network: nn.Module

    def __init__(
        self,
        config: Any,
        info: Any,
        *,
        objective: Objective | None = None,
        optimizer: Any = None,
        schedule: Any = None,
    ) -> None:
        super().__init__()
        self.info = info
        if not isinstance(info, self.info_type):
            kind = getattr(info, "kind", type(info).__name__)
            raise ValueError(
                f"{type(self).__name__} can't learn from data of the kind {kind!r}; "
                f"choose data.name {', '.join(self.data_names) or 'of another data set'}"
            )
        if (views := getattr(info, "views", 1)) != self.views:
            raise ValueError(f"{type(self).__name__} needs data.views={self.views}; got {views}")
        self.config = config
        self.objective = self.default_objective() if objective is None else objective
        self.optimizer_config = optimizer
        self.schedule_config = schedule
        self.val_metrics = nn.ModuleDict(self.build_metrics("val"))
        self.test_metrics = nn.ModuleDict(self.build_metrics("test"))

    @staticmethod
    def default_objective() -> Objective:
        """Return the objective of a model that is built without one."""
        return CrossEntropy(CrossEntropyConfig())

    def forward(self, *inputs: Tensor) -> Tensor:
        """Apply the network."""
        return self.network(*inputs)

    def progress_note(self) -> str:
        """Return a note for the progress line of an epoch, such as the current answer of the model."""
        return ""

    # ------------------------------------------------------------------------------------------- evaluation

    def build_metrics(self, stage: Stage) -> dict[str, Metric]:
        """Build the metrics of a stage by the names they are logged under.

        A `MeanMetric` is updated with the losses, every other metric with `metric_inputs`.
        """
        # With "disable" a NaN loss makes the mean NaN; ignoring it would make a broken model look better.
        return {"loss": MeanMetric(nan_strategy="disable")}

    def measure_on(self, info: Any) -> None:
        """Take the description of the data to evaluate: another text has other bytes per token."""
        self.info = info
        self.val_metrics.update(self.build_metrics("val"))
        self.test_metrics.update(self.build_metrics("test"))

    def evaluation_step(self, batch: Any, batch_idx: int, stage: Stage) -> dict[str, Tensor]:
        """Evaluate one batch.

        Returns:
            `losses`, one per example or token that counts; `logits`; `targets`; and what else callbacks use.
        """
        raise NotImplementedError

    def metric_inputs(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the predictions and the true answers that metrics compare."""
        return outputs["logits"], outputs["targets"]

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Add one batch to the validation metrics."""
        return self._evaluate(batch, batch_idx, "val", self.val_metrics)

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Add one batch to the test metrics."""
        return self._evaluate(batch, batch_idx, "test", self.test_metrics)

    def _evaluate(
        self, batch: Any, batch_idx: int, stage: Stage, metrics: nn.ModuleDict
    ) -> dict[str, Tensor]:
        outputs = self.evaluation_step(batch, batch_idx, stage)
        for name, metric in metrics.items():
            assert isinstance(metric, Metric)
            if isinstance(metric, MeanMetric):
                metric.update(outputs["losses"])
            else:
                metric.update(*self.metric_inputs(outputs))
            self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True)
        return outputs

    # --------------------------------------------------------------------------------------------- training

    def steps_per_epoch(self) -> int:
        """Count the optimizer steps of one epoch on this process.

        The number comes from the loader, because `trainer.estimated_stepping_batches` would set up the
        loaders a second time and lose the position that a resumed run restored.
        """
        trainer: Any = self.trainer
        batches = len(trainer.datamodule.train_dataloader())
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        return max(1, math.ceil(batches / trainer.accumulate_grad_batches))

    def total_steps(self) -> int:
        """Count the optimizer steps of the whole fit, which is the length of the schedule."""
        trainer = self.trainer
        limits = []
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            limits.append(trainer.max_epochs * self.steps_per_epoch())
        if trainer.max_steps >= 0:
            limits.append(trainer.max_steps)
        return max(1, min(limits, default=1))

    def configure_optimizers(self) -> Any:
        """Build the optimizer and the schedule, which is a pure function of the step."""
        if self.optimizer_config is None:
            raise ValueError(f"{type(self).__name__} has no optimizer config, so it can't be trained")
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

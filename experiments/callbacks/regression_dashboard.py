"""The TensorBoard dashboard of a regression: predictions beside the truth, and the worst rows of a table."""

from typing import Any

import lightning as L
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from experiments.callbacks import pictures
from experiments.callbacks.dashboard import OutputsDashboard, described_rows, pictures_due, places_in_split
from experiments.callbacks.tensorboard import add_picture, writer

TARGETS_SHOWN = 4
"""Largest number of targets with a picture of their own."""
WORST_SHOWN = 24


class RegressionDashboard(OutputsDashboard):
    """Draws the dashboard of a model of table rows, or of vectors such as steering vectors.

    After at most ten validations, evenly spread and including the last, and after a test: how many
    predictions lie where, over the true values, for each target of a table, or for all entries of the
    vectors. For a table also a list of the rows with the largest errors. With several processes, rank zero
    draws its own samples.
    """

    def __init__(self) -> None:
        super().__init__()
        self._undrawn: tuple[Tensor, Tensor] | None = None

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the pictures if they are due."""
        if trainer.sanity_checking:
            return
        self._undrawn = self.outputs()
        if pictures_due(trainer.current_epoch, trainer.max_epochs):
            self._draw_undrawn(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the last validation if it is not drawn yet."""
        self._draw_undrawn(trainer)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the test set."""
        _draw(trainer, "test", *self.outputs())

    def _draw_undrawn(self, trainer: L.Trainer) -> None:
        if self._undrawn is not None:
            _draw(trainer, "val", *self._undrawn)
            self._undrawn = None


def _draw(trainer: L.Trainer, stage: str, predicted: Tensor, true: Tensor) -> None:
    to = writer(trainer)
    if to is None:
        return
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    names = getattr(datamodule.info, "target_names", None)
    predicted, true = predicted.cpu(), true.cpu()
    if names is None:
        picture = pictures.density(true.numpy(), predicted.numpy(), f"{stage}: all entries of the vectors")
        add_picture(to, f"{stage}/predictions", picture, trainer.global_step)
        return
    for column, name in enumerate(names[:TARGETS_SHOWN]):
        picture = pictures.density(true[:, column].numpy(), predicted[:, column].numpy(), f"{stage}: {name}")
        add_picture(to, f"{stage}/predictions_{column + 1}", picture, trainer.global_step)
    _list_worst(to, trainer, stage, predicted, true)


def _list_worst(to: SummaryWriter, trainer: L.Trainer, stage: str, predicted: Tensor, true: Tensor) -> None:
    """Write a Markdown table of the rows with the largest squared errors."""
    errors = (predicted - true).square().sum(-1)
    chosen = errors.argsort(descending=True, stable=True)[:WORST_SHOWN]
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    texts = described_rows(datamodule, stage, places_in_split(trainer, chosen))
    lines = ["| truth | prediction | row |", "|---:|---:|---|"]
    for place, text in zip(chosen.tolist(), texts, strict=True):
        values = (" ".join(f"{v:.4g}" for v in row[place].tolist()) for row in (true, predicted))
        lines.append(f"| {' | '.join(values)} | {text.replace('|', chr(92) + '|')} |")
    to.add_text(f"{stage}/worst_rows", "\n".join(lines), trainer.global_step)

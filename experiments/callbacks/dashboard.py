"""The base of the dashboards: TensorBoard's page of curves, and what an evaluation returns."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from experiments.callbacks.tensorboard import Layout, layout, writer

PICTURE_DRAWINGS = 10
"""Largest number of drawings of a picture in a fit; TensorBoard shows this many per tag by default."""
FEATURES_SHOWN = 6
"""Largest number of values of a table row that a list of rows shows."""
TITLES = {
    "images": "image classifier",
    "labelled_text": "text classifier",
    "labelled_table": "table classifier",
    "table": "regression",
    "vector_pairs": "steering",
    "text": "language model",
    "sequence_pairs": "sequence to sequence",
    "sequence_labelling": "labelled characters",
}
"""The title of a model's section on the page, by the kind of its data."""


class Dashboard(Callback):
    """Lays out the page of custom scalars: a section on training, and one for the kind of model.

    The charts of the second section are those of the module's validation metrics. A subclass adds charts,
    and draws pictures.
    """

    trained: Sequence[str] = ()
    """Metrics that have a training curve too."""
    charts: Mapping[str, Sequence[str]] = MappingProxyType({})
    """More charts: regular expressions of scalar tags by title."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the layout."""
        to = writer(trainer)
        if to is not None:
            to.add_custom_scalars(self.page(pl_module))

    def page(self, pl_module: Any) -> Layout:
        """Lay out the page for a module. Each chart shows either training or validation."""
        charts: dict[str, Sequence[str]] = {}
        metrics = getattr(pl_module, "val_metrics", None)
        for name in metrics if isinstance(metrics, nn.ModuleDict) else ():
            if name != "loss":
                words = name.replace("_", " ")
                if name in self.trained:
                    charts[f"{words}, training"] = [f"^train/{name}$"]
                charts[f"{words}, validation"] = [f"^val/{name}$"]
        title = TITLES.get(getattr(getattr(pl_module, "info", None), "kind", ""), "model")
        return layout({title: {**charts, **self.charts}})


class OutputsDashboard(Dashboard):
    """Keeps the outputs and targets of an evaluation until its end.

    The module's steps return `logits` and `targets`. Each batch costs two list appends, and nothing is read
    from the device before the epoch is over.
    """

    def __init__(self) -> None:
        self._logits: list[Tensor] = []
        self._targets: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Clear the results of the last epoch."""
        self._logits, self._targets = [], []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the results of the step."""
        self._logits.append(outputs["logits"].detach())
        self._targets.append(outputs["targets"])

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end

    def outputs(self) -> tuple[Tensor, Tensor]:
        """Return the outputs (N, …) in fp32 and the targets (N, …) of this rank, and forget them."""
        logits, targets = torch.cat(self._logits).float(), torch.cat(self._targets)
        self._logits, self._targets = [], []
        return logits, targets


def pictures_due(epoch: int, max_epochs: int | None) -> bool:
    """Return whether pictures are drawn after this epoch: at most ten times, evenly, and after the last.

    It depends only on the epoch, so that a resumed run draws the same pictures.
    """
    if max_epochs is None or max_epochs < 0:
        return True
    every = math.ceil(max_epochs / PICTURE_DRAWINGS)
    return (epoch + 1) % every == 0 or epoch + 1 == max_epochs


def places_in_split(trainer: L.Trainer, chosen: Tensor) -> Tensor:
    """Return the places in the split of this rank's samples, which are every `world_size`-th."""
    return chosen * trainer.world_size + trainer.global_rank


def samples(datamodule: Any, stage: str, places: Tensor) -> Tensor:
    """Return samples of a split as they are stored, on the CPU."""
    inputs = datamodule.split(stage)[0]
    return inputs[places.to(inputs.device)].cpu()


def described_rows(datamodule: Any, stage: str, places: Tensor) -> list[str]:
    """Describe rows of a table by their first values."""
    rows = samples(datamodule, stage, places).flatten(1)
    names = getattr(datamodule.info, "feature_names", [str(i + 1) for i in range(rows.shape[1])])
    texts = []
    for place, row in zip(places.tolist(), rows[:, :FEATURES_SHOWN].tolist(), strict=True):
        values = [f"{name} {value:.4g}" for name, value in zip(names, row, strict=False)]
        texts.append(f"sample {place}: {', '.join(values)}")
    return texts

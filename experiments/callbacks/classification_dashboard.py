"""The TensorBoard dashboard of a classifier: mistakes, curves, filters and embeddings."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from experiments.callbacks import pictures
from experiments.callbacks.dashboard import (
    OutputsDashboard,
    described_rows,
    pictures_due,
    places_in_split,
    samples,
)
from experiments.callbacks.summary import inspection, is_sharded
from experiments.callbacks.tensorboard import add_picture, writer
from experiments.training.confusion import Confusion

MISTAKES_SHOWN = 24
EMBEDDED_SAMPLES = 1000


class ClassificationDashboard(OutputsDashboard):
    """Draws the dashboard of a classifier of images, texts or table rows.

    The module's steps return `logits` (B, K) and `targets` (B,), and its `features(inputs)` returns the
    penultimate layer (B, F). `trainer.datamodule` has `info.class_names` and `split(name)`; for tokens it
    also has `texts(name)`.

    - After each validation: the accuracy of each class as scalars `val_class/<name>`, and one
      precision-recall curve per class. After at most ten validations, evenly spread and including the last:
      the confusion matrix and the worst mistakes.
    - At the start and end of a fit: the filters of the first layer, for images. At the end: the penultimate
      layer of up to 1,000 validation samples in the embedding projector.
    - After a test: its confusion matrix and worst mistakes. The matrix is also written to
      `test_confusion.csv` in the run directory.

    With several processes, matrices and accuracies cover all samples; curves and mistakes only those of rank
    zero.
    """

    trained = ("accuracy",)
    charts = MappingProxyType({"accuracy by class, validation": ("^val_class/",)})

    def __init__(self) -> None:
        super().__init__()
        self._undrawn: tuple[Tensor, Tensor, Tensor] | None = None

    def _collected(self, trainer: L.Trainer) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (N, K) and targets (N,) of this rank, and counts (K, K) of all ranks, on the CPU."""
        logits, targets = self.outputs()
        counts = confusion_counts(logits, targets)
        counts = trainer.strategy.reduce(counts, reduce_op="sum")
        return logits.cpu(), targets.cpu(), counts.cpu()

    # Validation and test ------------------------------------------------------------------------------------

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log accuracies and curves; draw the pictures if they are due."""
        if trainer.sanity_checking:
            return
        logits, targets, counts = self._collected(trainer)
        to = writer(trainer)
        if to is None:
            return
        names, step = _class_names(trainer), trainer.global_step
        for name, accuracy in zip(names, per_class_accuracy(counts), strict=True):
            if not math.isnan(accuracy):
                to.add_scalar(f"val_class/{name}", accuracy, step)
        probabilities = logits.softmax(1).nan_to_num().numpy()
        for index, name in enumerate(names):
            is_class = (targets == index).numpy()
            to.add_pr_curve(f"val_pr/{name}", is_class, probabilities[:, index], step)
        self._undrawn = logits, targets, counts
        if pictures_due(trainer.current_epoch, trainer.max_epochs):
            self._draw_undrawn(to, trainer)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the confusion matrix and worst mistakes of the test set, and write the counts to a file."""
        logits, targets, counts = self._collected(trainer)
        to = writer(trainer)
        if to is not None:
            self._draw(to, trainer, "test", logits, targets, counts)
            table = tuple(map(tuple, counts.tolist()))
            run_dir = Path(to.log_dir).parent
            Confusion(class_names=tuple(_class_names(trainer)), counts=table).write(run_dir)

    def _draw_undrawn(self, to: SummaryWriter, trainer: L.Trainer) -> None:
        if self._undrawn is not None:
            self._draw(to, trainer, "val", *self._undrawn)
            self._undrawn = None

    def _draw(
        self,
        to: SummaryWriter,
        trainer: L.Trainer,
        stage: str,
        logits: Tensor,
        targets: Tensor,
        counts: Tensor,
    ) -> None:
        names, step = _class_names(trainer), trainer.global_step
        total, hits = int(counts.sum()), int(counts.diagonal().sum())
        title = f"{stage}: {total - hits:,} of {total:,} wrong, accuracy {100 * hits / max(1, total):.2f} %"
        add_picture(
            to, f"{stage}/confusion_matrix", pictures.confusion_matrix(counts.numpy(), names, title), step
        )
        chosen = worst_mistakes(logits, targets, MISTAKES_SHOWN)
        places = places_in_split(trainer, chosen)
        probabilities, predicted = logits[chosen].softmax(1).max(1)
        true, said = ([names[i] for i in classes.tolist()] for classes in (targets[chosen], predicted))
        tag = f"{stage}/worst_mistakes"
        texts = _texts(trainer, stage, places)
        if texts is not None:
            to.add_text(tag, mistake_table(texts, true, said, probabilities.tolist()), step)
            return
        picture = pictures.mistake_grid(
            pictures.as_rgb(_images(trainer, stage, places)),
            true,
            said,
            probabilities.tolist(),
            f"{stage}: the truth in black, the prediction in red",
        )
        add_picture(to, tag, picture, step)

    # Start and end of a fit ---------------------------------------------------------------------------------

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the layout, and draw the initial filters of a new fit."""
        super().on_train_start(trainer, pl_module)
        self._undrawn = None
        to = writer(trainer)
        if to is not None and trainer.global_step == 0 and not is_sharded(trainer):
            _draw_filters(to, trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the last validation if it is not drawn yet, the filters and the embedding."""
        to = writer(trainer)
        if to is not None:
            self._draw_undrawn(to, trainer)
        if to is not None and not is_sharded(trainer):
            _draw_filters(to, trainer, pl_module)
            if getattr(pl_module, "has_features", True):
                _embed(to, trainer, pl_module)


def confusion_counts(logits: Tensor, targets: Tensor) -> Tensor:
    """Count (true, predicted) pairs: (N, K), (N,) → int64 (K, K)."""
    classes = logits.shape[1]
    return torch.bincount(targets * classes + logits.argmax(1), minlength=classes**2).view(classes, classes)


def per_class_accuracy(counts: Tensor) -> list[float]:
    """Return the accuracy of each class: (K, K) → K numbers, NaN for a class without samples."""
    return (counts.diagonal() / counts.sum(1)).tolist()


def worst_mistakes(logits: Tensor, targets: Tensor, limit: int) -> Tensor:
    """Find the misclassified samples with the lowest probability of the true class, the worst first.

    Args:
        logits: (N, K).
        targets: (N,).
        limit: The most indices to return.

    Returns:
        Indices, int64 (M,) with M ≤ limit.
    """
    wrong = (logits.argmax(1) != targets).nonzero().squeeze(1)
    loss = nn.functional.cross_entropy(logits[wrong], targets[wrong], reduction="none")
    return wrong[loss.argsort(descending=True, stable=True)[:limit]]


def mistake_table(
    texts: Sequence[str], true: Sequence[str], said: Sequence[str], probabilities: Sequence[float]
) -> str:
    """Build a Markdown table of misclassified texts."""
    lines = ["| truth | prediction | probability | text |", "|---|---|---:|---|"]
    for text, *classes, probability in zip(texts, true, said, probabilities, strict=True):
        shown = " ".join(text.split()).replace("|", "\\|")
        lines.append(f"| {' | '.join(classes)} | {probability:.2f} | {shown} |")
    return "\n".join(lines)


def first_layer_filters(module: nn.Module, input_shape: Sequence[int]) -> Tensor | None:
    """Return the weights of the first layer as images (N, C, H, W).

    These are the kernels of the first convolution, or the rows of the first linear layer in the shape of its
    input. The result is `None` if the first linear layer does not see whole images (C, H, W).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            return layer.weight.detach()
        if isinstance(layer, nn.Linear):
            if len(input_shape) != 3 or layer.in_features != math.prod(input_shape):
                return None
            return layer.weight.detach().view(-1, *input_shape)
    return None


def _draw_filters(to: SummaryWriter, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    weights = first_layer_filters(pl_module, getattr(datamodule.info, "input_shape", ()))
    if weights is not None:
        shape = " × ".join(str(n) for n in weights.shape)
        picture = pictures.filter_grid(weights.float().cpu().numpy(), f"first layer, {shape}")
        add_picture(to, "weights/first_layer", picture, trainer.global_step)


def _embed(to: SummaryWriter, trainer: L.Trainer, pl_module: Any) -> None:
    """Write the penultimate layer of the first validation samples of this rank for the projector."""
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    features: list[Tensor] = []
    labels: list[int] = []
    with inspection(pl_module), trainer.precision_plugin.forward_context():
        for images, targets in datamodule.val_dataloader():
            missing = EMBEDDED_SAMPLES - len(labels)
            device = pl_module.device
            features.append(pl_module.features(images[:missing].to(device)).float().cpu())
            labels += targets[:missing].tolist()
            if len(labels) >= EMBEDDED_SAMPLES:
                break
    names = _class_names(trainer)
    indices = places_in_split(trainer, torch.arange(len(labels)))
    sprites = None
    if _texts(trainer, "val", indices) is None:
        sprites = torch.from_numpy(pictures.sprites(_images(trainer, "val", indices)))
    to.add_embedding(
        torch.cat(features),
        metadata=[names[i] for i in labels],
        label_img=sprites,
        global_step=trainer.global_step,
        tag="penultimate_layer",
    )


def _class_names(trainer: L.Trainer) -> Sequence[str]:
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    return datamodule.info.class_names


def _images(trainer: L.Trainer, stage: str, places: Tensor) -> np.ndarray:
    """Return samples of a split as they are stored, (N, C, H, W)."""
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    return samples(datamodule, stage, places).reshape(-1, *datamodule.info.input_shape).numpy()


def _texts(trainer: L.Trainer, stage: str, places: Tensor) -> list[str] | None:
    """Return samples of a split as texts; `None` if they are images."""
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    if hasattr(datamodule, "texts"):
        texts = datamodule.texts(stage)
        return [texts[place] for place in places.tolist()]
    return None if len(datamodule.info.input_shape) == 3 else described_rows(datamodule, stage, places)

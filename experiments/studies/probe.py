"""Judge the features of a network by simple classifiers on top of them, which leave the network as it is.

Shape letters: N images, C channels, H height, W width, F features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from experiments.callbacks import pictures
from experiments.config.baselines import KNearestNeighborsConfig, LogisticRegressionConfig
from experiments.config.check import load_config
from experiments.config.probe import ProbeConfig
from experiments.config.root import Config
from experiments.errors import UserError, writing
from experiments.studies.baselines import run_baseline
from experiments.studies.tasks import Stage, Task
from experiments.training.build import build_data, build_model, restore
from experiments.training.checkpoint_path import open_checkpoint
from lit_modules.configs.image_classifier import ImageClassifierConfig

Encode = Callable[[Tensor], Tensor]
"""From stored images, uint8 (N, C, H, W), to features (N, F)."""
MAX_ITERATIONS = 1000
SHOWN = 2000
"""Validation images in the embedding projector."""


class Probe(Task):
    """Train a linear probe and a k-nearest-neighbours classifier on features, and test both.

    The linear probe is a logistic regression on features that are standardised over the training images;
    pixels are only scaled to [0, 1]. Neighbours are compared by cosine. Without `labels`, the features of
    some validation images are also written for the embedding projector of TensorBoard.
    """

    settings: ProbeConfig

    def check(self, earlier: Mapping[str, Config]) -> None:
        """Check that the fit comes before and is a network on images, and that there are enough labels."""
        fits = [
            name
            for name, config in earlier.items()
            if config.task is None and isinstance(config.model.config, ImageClassifierConfig)
        ]
        if self.settings.fit not in fits:
            known = ", ".join(fits) or "none"
            raise UserError(
                f"task.fit = {self.settings.fit!r}: no earlier fit of a network on images; allowed: {known}"
            )
        labels, neighbors = self.settings.labels, self.settings.neighbors
        load_config(earlier[self.settings.fit].plain, {"data.train_samples": labels})
        if 0 < labels < neighbors:
            raise UserError(f"task.neighbors = {neighbors} is more than task.labels = {labels}")

    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Compute the features once, and fit both classifiers on them."""
        settings, stage = self.settings, stages[self.settings.fit]
        experiment = load_config(stage.config.plain, {"data.train_samples": settings.labels})
        datamodule = build_data(experiment)
        features = encoded(datamodule, _encoder(settings.features, stage, experiment, datamodule))
        linear = LogisticRegressionConfig(
            inverse_penalty=settings.inverse_penalty, max_iterations=MAX_ITERATIONS
        )
        unit = features.changed(lambda rows: F.normalize(rows, dim=1))  # so that distances rank as cosines
        metrics: dict[str, float] = {}
        for prefix, config, prepared in (
            ("", linear, features if settings.features == "pixels" else standardised(features)),
            ("neighbors_", KNearestNeighborsConfig(neighbors=settings.neighbors), unit),
        ):
            found = run_baseline(config, prepared, experiment.seed)
            for split in ("val", "test"):
                metrics[f"{split}/{prefix}accuracy"] = found[f"{split}/accuracy"]
                say(f"{split}/{prefix}accuracy {100 * found[f'{split}/accuracy']:.2f} %")
        if not settings.labels:
            _show(features, datamodule, run_dir / "tensorboard")
        return metrics


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features (N, F) and targets (N,) of each split, as `run_baseline` reads them."""

    rows: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """Return features and targets of `"train"`, `"val"` or `"test"`."""
        return self.rows[name], self.targets[name]

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Features":
        """Apply a function to the features of each split."""
        return replace(self, rows={name: change(rows) for name, rows in self.rows.items()})


def encoded(datamodule: Any, encode: Encode) -> Features:
    """Compute the features of all images of a datamodule, in batches."""
    rows, targets = {}, {}
    for name in ("train", "val", "test"):
        images, targets[name] = datamodule.split(name)
        rows[name] = torch.cat([encode(batch) for batch in images.split(1000)])
    return Features(rows=rows, targets=targets)


def standardised(features: Features) -> Features:
    """Give each feature mean 0 and standard deviation 1 over the training images; a constant becomes 0."""
    mean, std = features.rows["train"].mean(0), features.rows["train"].std(0)
    return features.changed(lambda rows: (rows - mean) / std.where(std > 1e-6, torch.inf))


def _show(features: Features, datamodule: Any, folder: Path) -> None:
    """Write the features of validation images for the embedding projector, with images and classes."""
    images, targets = (part[:SHOWN] for part in datamodule.split("val"))
    sprites = torch.from_numpy(pictures.sprites(images.numpy()))
    names = [datamodule.info.class_names[target] for target in targets.tolist()]
    with writing(folder), SummaryWriter(str(folder)) as to:
        to.add_embedding(features.rows["val"][:SHOWN], metadata=names, label_img=sprites, tag="features")


def _encoder(kind: str, stage: Stage, experiment: Config, datamodule: Any) -> Encode:
    """Return the function that computes the features of a fit."""
    if kind == "pixels":
        return lambda images: images.flatten(1) / 255
    if kind == "trained":
        path, saved = open_checkpoint(stage.run_dir)
        module = restore(saved, path).module
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(experiment.seed)  # as the fit began
            module = build_model(experiment, datamodule.info).eval()

    @torch.inference_mode()
    def encode(images: Tensor) -> Tensor:
        return module.features(datamodule.normalize(images)).float()

    return encode

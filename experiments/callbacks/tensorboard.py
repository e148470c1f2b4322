"""Write to TensorBoard: layout, pictures and hyperparameters."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

Layout = dict[str, dict[str, list[Any]]]


def writer(trainer: L.Trainer) -> SummaryWriter | None:
    """Return the TensorBoard writer of rank zero; `None` on other ranks and without a TensorBoard logger."""
    if not trainer.is_global_zero:
        return None
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return loggers[0].experiment if loggers else None


def layout(quality: Sequence[str] = (), **categories: Mapping[str, Sequence[str]]) -> Layout:
    """Lay out the page of custom scalars, with training and validation in one chart.

    Args:
        quality: Metrics with a chart of their own, such as `("accuracy",)`.
        categories: More sections, each from the title of a chart to regular expressions of scalar tags.
    """
    charts = {name: [f"^train/{name}$", f"^val/{name}$"] for name in ("loss", *quality)}
    charts["learning rate"] = ["^train/learning_rate$"]
    charts["gradient norm"] = ["^train/gradient_norm$"]
    charts["throughput"] = ["^train/(samples|tokens)_per_second$"]
    sections: dict[str, Mapping[str, Sequence[str]]] = {"training": charts, **categories}
    return {
        section: {title: ["Multiline", list(tags)] for title, tags in content.items()}
        for section, content in sections.items()
    }


def add_picture(to: SummaryWriter, tag: str, picture: Image.Image, step: int) -> None:
    """Log a picture under a tag; TensorBoard shows the steps of one tag on a slider.

    `SummaryWriter.add_image` converts the picture to floats and compresses it more, which takes three times
    as long.
    """
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", compress_level=1)
    image = Summary.Image(
        height=picture.height, width=picture.width, colorspace=3, encoded_image_string=encoded.getvalue()
    )
    to._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def log_hyperparameters(trainer: L.Trainer, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Fill the run's row in the HPARAMS tab. Call this once, when the final metrics are known.

    The metrics are written as scalars `final/<name>`, because the tab shows the last value of a scalar. For a
    curve such as `val/loss` that would be the last epoch, not the checkpoint that was chosen.

    Without a TensorBoard logger nothing happens. Numbers stay numbers; other values become text.
    """
    # The tab's table opens on the first metric.
    names = sorted(metrics, key=lambda name: not name.startswith("test/"))
    final = {f"final/{name}": float(metrics[name]) for name in names}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_flat(config), final)
            logger.experiment.flush()


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, float | str]:
    flat: dict[str, float | str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = value
        else:  # as YAML writes it
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat

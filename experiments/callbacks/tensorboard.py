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
from torch.utils.tensorboard.summary import hparams

TRAINING = "training (Smoothing 0 shows the exact values)"
"""Title of the section of all models. TensorBoard smooths curves unless it is told not to."""
Layout = dict[str, dict[str, list[Any]]]


def writer(trainer: L.Trainer) -> SummaryWriter | None:
    """Return the TensorBoard writer of rank zero; `None` on other ranks and without a TensorBoard logger."""
    if not trainer.is_global_zero:
        return None
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return loggers[0].experiment if loggers else None


def layout(sections: Mapping[str, Mapping[str, Sequence[str]]]) -> Layout:
    """Lay out the page of custom scalars. The section on training, the same for all models, is first.

    TensorBoard draws all tags of a run in one colour, so a chart shows training or validation, not both.

    Args:
        sections: More sections. Each has regular expressions of scalar tags by the title of a chart; a
            section without a chart is left out.
    """
    training = {
        "loss, training": ["^train/loss$"],
        "loss, validation": ["^val/loss$"],
        "learning rate": ["^train/learning_rate$"],
        "gradient norm": ["^train/gradient_norm$"],
        "samples or tokens per second": ["^train/(samples|tokens)_per_second$"],
    }
    return {
        section: {title: ["Multiline", list(tags)] for title, tags in charts.items()}
        for section, charts in {TRAINING: training, **sections}.items()
        if charts
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


def log_hyperparameters(
    trainer: L.Trainer, settings: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    """Fill the run's row in the HPARAMS tab. Call this once, when the final metrics are known.

    The tab shows the last value of each scalar. For `val/loss` that would be the last epoch, so the metrics
    of the chosen checkpoint are written as `val_best/<name>`, and those of the run as `whole_fit/<name>`. The
    metrics of the test are scalars already.

    TensorBoard chooses the columns itself: first the settings that differ between runs, then the others. It
    would take them from one run alone if a summary of the experiment were written too.

    Args:
        trainer: The Trainer of the fit. Without a TensorBoard logger nothing happens.
        settings: What was set, by its dotted key. Numbers stay numbers; other values become text.
        metrics: The final metrics.
    """
    to = writer(trainer)
    if to is None:
        return
    for name, value in metrics.items():
        if not name.startswith("test/"):
            tag = name.replace("val/", "val_best/", 1) if name.startswith("val/") else f"whole_fit/{name}"
            to.add_scalar(tag, value, trainer.global_step)
    _, start, end = hparams({key: _plain(value) for key, value in settings.items()}, {})
    for summary in (start, end):
        to._get_file_writer().add_summary(summary)
    to.flush()


def _plain(value: Any) -> float | str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return value if isinstance(value, str) else json.dumps(value)  # as YAML writes it

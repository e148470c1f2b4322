"""The TensorBoard side of a run: its writer, the layout it opens on, pictures, hyperparameters."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

FOREMOST = ("model.", "optimizer.")
"""Sections of a config whose hyperparameters come first."""

Layout = dict[str, dict[str, list[Any]]]


def writer(trainer: L.Trainer) -> SummaryWriter | None:
    """Rank zero's TensorBoard writer; `None` on other ranks and in runs that don't log to TensorBoard."""
    if not trainer.is_global_zero:
        return None
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return loggers[0].experiment if loggers else None


def layout(quality: Sequence[str] = (), **categories: Mapping[str, Sequence[str]]) -> Layout:
    """The custom-scalars page: what a person looks at first, train and validation in one chart.

    Args:
        quality: Metrics beside the loss, such as `("accuracy",)`: each gets a chart of its curves in
            training and validation.
        categories: Further sections, each mapping a chart's title to regular expressions of scalar tags.

    Returns:
        What `SummaryWriter.add_custom_scalars` takes.
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

    `SummaryWriter.add_image` would convert it by way of floats and compress it harder, in thrice the time.
    """
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", compress_level=1)
    image = Summary.Image(
        height=picture.height, width=picture.width, colorspace=3, encoded_image_string=encoded.getvalue()
    )
    _events(to).add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def log_hyperparameters(
    to: L.Trainer | SummaryWriter, config: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    """Fill the run's row in the hparams tab. Call it once, when the final metrics are known.

    Metrics are written as scalars `final/<name>`: the tab shows the last value of a scalar, which for a
    curve such as `val/loss` is that of the last epoch and not that of the checkpoint that was chosen.

    Args:
        to: The Trainer that logged the run, or its writer. Nothing happens where there is no writer.
        config: Plain values, nested or by dotted name. Numbers stay numbers; the rest becomes text.
        metrics: The final metrics by name.
    """
    target = to if isinstance(to, SummaryWriter) else writer(to)
    if target is None:
        return
    # The tab's table opens on the first metric.
    names = sorted(metrics, key=lambda name: not name.startswith("test/"))
    final = {f"final/{name}": float(metrics[name]) for name in names}
    for tag, value in final.items():
        target.add_scalar(tag, value)
    # `SummaryWriter.add_hparams` would open a second folder, which TensorBoard shows as a second run.
    experiment, start, end = hparams(_flat(config), final)
    for summary in (_foremost_first(experiment), start, end):
        _events(target).add_summary(summary)
    target.flush()


def _foremost_first(experiment: Summary) -> Summary:
    """Let the tab's columns begin with what a person looks for.

    It shows hyperparameters that differ between runs before the others, and either kind by name, which would
    put every setting of the augmentation before the model. What differs is taken from this mark.
    """
    plugin = experiment.value[0].metadata.plugin_data
    data = HParamsPluginData.FromString(plugin.content)
    for info in data.experiment.hparam_infos:
        info.differs = info.name.startswith(FOREMOST)
    plugin.content = data.SerializeToString()
    return experiment


def _events(to: SummaryWriter) -> Any:
    """The writer's event file; a closed one (each stage of a Trainer closes it) is followed by another."""
    return to._get_file_writer()


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

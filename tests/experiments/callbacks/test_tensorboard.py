import warnings

import lightning as L
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter

from experiments.callbacks.tensorboard import TRAINING, add_picture, layout, log_hyperparameters, writer


def trainer(logger):
    return L.Trainer(accelerator="cpu", logger=logger, enable_progress_bar=False, enable_checkpointing=False)


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


def test_writer_is_found_among_loggers(tmp_path):
    board = TensorBoardLogger(tmp_path, name="", version="tensorboard")
    assert writer(trainer([CSVLogger(tmp_path), board])) is board.experiment
    assert writer(trainer([CSVLogger(tmp_path)])) is None
    assert writer(trainer(False)) is None
    board.experiment.close()


def test_only_rank_zero_writes(tmp_path, monkeypatch):
    follower = trainer(TensorBoardLogger(tmp_path))
    monkeypatch.setattr(type(follower), "is_global_zero", False)
    assert writer(follower) is None


def test_no_chart_of_the_layout_shows_training_and_validation_in_one_colour(tmp_path):
    to = SummaryWriter(tmp_path)
    to.add_custom_scalars(layout({"classes": {"by class": ["^val_class/"]}, "nothing": {}}))
    to.close()
    (event,) = read(tmp_path).Tensors("custom_scalars__config__")
    page = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {(c.title, chart.title): list(chart.multiline.tag) for c in page.category for chart in c.chart}
    assert charts[TRAINING, "loss, training"] == ["^train/loss$"]
    assert charts[TRAINING, "loss, validation"] == ["^val/loss$"]
    assert charts["classes", "by class"] == ["^val_class/"]
    assert next(iter(charts)) == (TRAINING, "loss, training")
    assert all(len({tag[:4] for tag in tags}) == 1 for tags in charts.values())
    assert [category.title for category in page.category] == [TRAINING, "classes"]


def test_picture_is_read_back_pixel_by_pixel(tmp_path):
    import io

    picture = Image.effect_mandelbrot((40, 30), (-2, -1.5, 1, 1.5), 20).convert("RGB")
    to = SummaryWriter(tmp_path)
    add_picture(to, "val/picture", picture, 7)
    to.close()
    (event,) = read(tmp_path).Images("val/picture")
    assert (event.step, event.width, event.height) == (7, 40, 30)
    assert Image.open(io.BytesIO(event.encoded_image_string)).tobytes() == picture.tobytes()


@pytest.mark.parametrize("closed_before", [False, True])
def test_hyperparameters_carry_their_final_metrics(tmp_path, closed_before):
    board = TensorBoardLogger(tmp_path, name="", version="tensorboard", default_hp_metric=False)
    board.experiment.add_scalar("val/loss", 0.9, 1)
    if closed_before:  # as a Trainer leaves it
        board.experiment.close()
    config = {"model.width": 16, "model.dropout": None, "model.sizes": [3, 4], "trainer.compile": True}
    metrics = {"val/loss": 0.25, "test/accuracy": 0.99, "fit_seconds": 3.0}
    log_hyperparameters(trainer(board), config, metrics)
    board.experiment.close()
    events = read(tmp_path / "tensorboard")
    assert {t: events.Scalars(t)[-1].value for t in events.Tags()["scalars"]} == pytest.approx(
        {"val/loss": 0.9, "val_best/loss": 0.25, "whole_fit/fit_seconds": 3.0}
    )
    plugin = events.PluginTagToContent("hparams")
    # An experiment's own summary would make TensorBoard read the columns from the first run alone.
    assert set(plugin) == {"_hparams_/session_start_info", "_hparams_/session_end_info"}
    start = plugin_data_pb2.HParamsPluginData.FromString(plugin["_hparams_/session_start_info"])
    values = {
        name: v.number_value if v.HasField("number_value") else v.string_value
        for name, v in start.session_start_info.hparams.items()
    }
    assert values == {
        "model.width": 16,
        "model.dropout": "null",
        "model.sizes": "[3, 4]",
        "trainer.compile": "true",
    }
    # One folder is one run: a second one would appear as a second row.
    assert len({p.parent for p in tmp_path.rglob("events*")}) == 1


def test_without_a_writer_nothing_happens():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_hyperparameters(trainer(False), {"a": 1}, {"b": 2.0})

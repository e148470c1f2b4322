"""The dashboard of a regression, in a real fit of a table."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import experiments
from experiments.callbacks import pictures


def read(run_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


def fit(tiny: dict[str, Any], **sections: Any) -> Any:
    trainer = {**tiny["trainer"], "dashboard": True, "max_epochs": 2}
    return experiments.run({**tiny, **sections, "trainer": trainer})


def test_predictions_and_worst_rows_of_a_table_are_drawn(tiny: dict[str, Any]) -> None:
    data = {"name": "table", "path": "diabetes", "batch_size": 64}
    result = fit(tiny, model={"name": "table_regression"}, data=data)
    events = read(result.run_dir)
    assert set(events.Tags()["images"]) == {"val/predictions_1", "test/predictions_1"}
    assert len(events.Images("val/predictions_1")) == 2
    from experiments.config.check import load_config
    from experiments.training.build import build_data

    module = result.module
    datamodule = build_data(load_config(result.run_dir / "config.yaml"), None)
    datamodule.prepare_data()
    datamodule.setup("test")
    _, targets = datamodule.split("test")
    predicted = torch.cat([module(batch[0]) for batch in datamodule.test_dataloader()]).detach()
    (event,) = events.Images("test/predictions_1")
    expected = pictures.density(targets[:, 0].numpy(), predicted[:, 0].numpy(), "test: target")
    drawn = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    assert (drawn[26:] == np.asarray(expected)[26:]).all()
    (text,) = events.Tensors("test/worst_rows/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    worst = int((predicted - targets).square().sum(-1).argmax())
    assert lines[2].startswith(
        f"| {targets[worst].item():.4g} | {predicted[worst].item():.4g} | sample {worst}:"
    )


def test_the_entries_of_steering_vectors_are_drawn_as_one(tiny: dict[str, Any]) -> None:
    data = {"name": "steering_pairs", "width": 8, "size": 200, "val_size": 20, "test_size": 20}
    result = fit(tiny, model={"name": "steering", "hidden": 8}, data=data)
    events = read(result.run_dir)
    assert set(events.Tags()["images"]) == {"val/predictions", "test/predictions"}


def test_the_last_validation_of_a_fit_that_stops_early_is_drawn(tiny: dict[str, Any]) -> None:
    trainer = {**tiny["trainer"], "dashboard": True, "max_epochs": 40, "early_stopping_patience": 1}
    data = {"name": "table", "path": "diabetes", "batch_size": 64}
    still = {"name": "sgd", "lr": 1e-30}
    whole = {"model": {"name": "table_regression"}, "data": data, "optimizer": still, "trainer": trainer}
    result = experiments.run({**tiny, **whole})
    (event,) = read(result.run_dir).Images("val/predictions_1")
    assert event.step == result.metrics["steps"]


def test_drawing_leaves_the_run_as_it_is(tiny: dict[str, Any]) -> None:
    data = {"name": "table", "path": "diabetes", "batch_size": 64}
    whole = {**tiny, "model": {"name": "table_regression"}, "data": data}
    first = fit(whole, run_dir="first")
    second = experiments.run({**whole, "run_dir": "second", "trainer": {**tiny["trainer"], "max_epochs": 2}})
    for name, tensor in first.module.state_dict().items():
        assert torch.equal(tensor, second.module.state_dict()[name]), name
    assert first.metrics["test/loss"] == pytest.approx(second.metrics["test/loss"], abs=0)

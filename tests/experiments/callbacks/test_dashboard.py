"""The page of custom scalars, in real runs: sections by the kind of model, and no empty chart."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import plugin_data_pb2

import experiments
from datamodules.info import DataInfo
from experiments.callbacks.dashboard import TITLES, described_rows, pictures_due
from experiments.callbacks.tensorboard import TRAINING, layout

TABLE = {"name": "table", "path": "diabetes", "batch_size": 64}
FITS: dict[str, dict[str, Any]] = {
    "image classifier": {
        "model": {"name": "mlp", "hidden": [8]},
        "data": {"name": "digits", "batch_size": 250, "eval_batch_size": 100},
    },
    "table classifier": {
        "model": {"name": "table_classifier"},
        "data": {**TABLE, "path": "breast_cancer"},
    },
    "regression": {"model": {"name": "table_regression"}, "data": TABLE},
    "steering": {
        "model": {"name": "steering", "hidden": 8},
        "data": {"name": "steering_pairs", "width": 8, "size": 200, "val_size": 20, "test_size": 20},
    },
    "labelled characters": {
        "model": {"name": "char_rnn", "hidden": 8},
        "data": {"name": "hello"},
    },
}


def read(run_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


def sections(events: EventAccumulator) -> dict[str, dict[str, list[str]]]:
    """The charts of each section, with their regular expressions."""
    (event,) = events.Tensors("custom_scalars__config__")
    page = Layout.FromString(event.tensor_proto.string_val[0])
    return {c.title: {chart.title: list(chart.multiline.tag) for chart in c.chart} for c in page.category}


@pytest.mark.parametrize("title", FITS)
def test_each_kind_of_model_has_its_section_and_no_chart_is_empty(title: str, tiny: dict[str, Any]) -> None:
    trainer = {**tiny["trainer"], "dashboard": True, "max_epochs": 1, "log_every_n_steps": 50}
    result = experiments.run({**tiny, **FITS[title], "trainer": trainer})
    events = read(result.run_dir)
    found, tags = sections(events), events.Tags()["scalars"]
    assert list(found) == [TRAINING, title]
    for charts in found.values():
        for chart, patterns in charts.items():
            shown = [tag for tag in tags for pattern in patterns if re.match(pattern, tag)]
            assert shown, chart
            assert len({tag.startswith("train/") for tag in shown}) == 1, chart
    assert "epoch" not in tags
    assert min(tags).startswith(("test/", "train/")), "the first chart of the tab TIME SERIES"


def test_the_row_of_a_run_shows_what_was_set(tiny: dict[str, Any]) -> None:
    result = experiments.run(tiny, "optimizer.lr=0.25")
    plugin = read(result.run_dir).PluginTagToContent("hparams")
    start = plugin_data_pb2.HParamsPluginData.FromString(plugin["_hparams_/session_start_info"])
    shown = start.session_start_info.hparams
    assert shown["optimizer.lr"].number_value == 0.25
    assert shown["model.hidden"].string_value == "[8]"
    assert shown["model.name"].string_value == "mlp"
    assert not {"optimizer.momentum", "trainer.ema_decay", "model.dropout"} & set(shown)


def board(logdir: Path) -> Any:
    """What TensorBoard itself reads from a folder of runs."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logdir))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(logdir))
    return TBContext(logdir=str(logdir), data_provider=provider, plugin_name_to_instance={})


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer:DeprecationWarning")
def test_one_folder_with_several_kinds_of_runs_has_each_section_once(tiny: dict[str, Any]) -> None:
    trainer = {**tiny["trainer"], "dashboard": True, "max_epochs": 1}
    titles = ["image classifier", "steering", "regression", "image classifier"]
    for number, title in enumerate(titles):
        run_dir = f"runs/{number}_{title}"
        experiments.run({**tiny, **FITS[title], "trainer": trainer, "run_dir": run_dir})
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin

    page = json.loads(CustomScalarsPlugin(board(Path("runs"))).layout_impl(RequestContext(), ""))
    assert [category["title"] for category in page["category"]] == [TRAINING, *titles[:3]]
    for category in page["category"]:
        charts = [chart["title"] for chart in category["chart"]]
        assert len(charts) == len(set(charts)), category["title"]


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer:DeprecationWarning")
def test_columns_that_differ_between_runs_are_first(tiny: dict[str, Any]) -> None:
    for rate in (0.25, 0.5):
        experiments.run(tiny, f"optimizer.lr={rate}", f"run_dir=runs/{rate}")
    from tensorboard.plugins.hparams.backend_context import Context

    context, request = Context(board(Path("runs"))), RequestContext()
    found = context.experiment_from_metadata(request, "", True, context.hparams_metadata(request, ""), [])
    assert [info.name for info in found.hparam_infos if info.differs] == ["optimizer.lr"]
    assert found.hparam_infos[0].name == "optimizer.lr"
    metrics = [info.name.tag for info in found.metric_infos]
    assert metrics[0] == "test/accuracy"
    assert {"val_best/loss", "whole_fit/parameters"} <= set(metrics)


def test_every_kind_of_data_has_a_title() -> None:
    assert set(TITLES) == {kind.kind for kind in DataInfo.__subclasses__()}


def test_the_training_section_is_the_same_for_all_models() -> None:
    """TensorBoard merges the sections of several runs, and loses charts of unequal ones."""
    first, second = layout({"a": {"x": ["^x$"]}}), layout({"b": {"y": ["^y$"]}})
    assert first[TRAINING] == second[TRAINING]


@pytest.mark.parametrize("max_epochs", [1, 2, 9, 10, 11, 19, 20, 21, 99, 100, 101])
def test_pictures_are_drawn_at_most_ten_times_and_at_the_end(max_epochs: int) -> None:
    due = [epoch for epoch in range(max_epochs) if pictures_due(epoch, max_epochs)]
    assert due[-1] == max_epochs - 1
    assert min(max_epochs, 6) <= len(due) <= 10


def test_a_row_is_described_by_its_first_values() -> None:
    rows = torch.arange(24.0).reshape(3, 8)
    info = SimpleNamespace(feature_names=tuple("abcdefgh"))
    data = SimpleNamespace(info=info, split=lambda name: (rows,))
    assert described_rows(data, "val", torch.tensor([2])) == ["sample 2: a 16, b 17, c 18, d 19, e 20, f 21"]

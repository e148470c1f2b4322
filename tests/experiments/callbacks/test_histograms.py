"""Histograms of weights and gradients are logged on request only."""

from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

import experiments
from experiments.callbacks.histograms import _add


def histograms(folder: Any) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"histograms": 0})
    events.Reload()
    return events


def test_each_parameter_has_a_histogram_of_its_weights_and_of_its_gradients(tiny: dict[str, Any]) -> None:
    result = experiments.run(tiny, "trainer.measure=[histograms]", "trainer.log_every_n_steps=4")
    events = histograms(result.run_dir / "tensorboard")
    names = [name for name, _ in result.module.named_parameters()]
    expected = {f"{kind}/{name}" for kind in ("weights", "gradients") for name in names}
    assert set(events.Tags()["histograms"]) == expected
    for tag in expected:
        assert [event.step for event in events.Histograms(tag)] == [1, 4, 8, 12]
    (first, *_) = events.Histograms(f"weights/{names[0]}")
    assert first.histogram_value.num == 64 * 8


def test_without_the_request_there_is_none(tiny: dict[str, Any]) -> None:
    result = experiments.run(tiny)
    assert histograms(result.run_dir / "tensorboard").Tags()["histograms"] == []


def test_values_that_are_not_finite_are_left_out(tmp_path: Any) -> None:
    to = SummaryWriter(tmp_path)
    _add(to, "some", torch.tensor([1.0, np.inf, np.nan, 3.0], dtype=torch.bfloat16), 1)
    _add(to, "none", torch.tensor([np.nan]), 1)
    _add(to, "absent", None, 1)
    to.close()
    events = histograms(tmp_path)
    assert events.Tags()["histograms"] == ["some"]
    (event,) = events.Histograms("some")
    assert (event.histogram_value.num, event.histogram_value.sum) == (2, pytest.approx(4))

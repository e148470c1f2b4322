"""A setting that has moved is found: by the message for a config, by the conversion of a checkpoint."""

from pathlib import Path
from typing import Any

import pytest

from experiments.config.check import load_config
from experiments.config.moved_keys import MOVED, migrate
from experiments.errors import UserError

OLD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a smoothed classifier": (
        {"model": {"name": "mlp", "label_smoothing": 0.1, "hidden": [8]}},
        {"model": {"name": "mlp", "hidden": [8]}, "objective": {"label_smoothing": 0.1}},
    ),
    "a steering network": (
        {"model": {"name": "steering", "loss": "mse_l1_cosine"}},
        {"model": {"name": "steering"}, "objective": {"name": "mse_l1_cosine"}},
    ),
    "a batch norm": (
        {"model": {"name": "mlp", "batch_norm": True}},
        {"model": {"name": "mlp", "norm": "batch_norm"}},
    ),
    "no batch norm": (
        {"model": {"name": "table_classifier", "batch_norm": False}},
        {"model": {"name": "table_classifier", "norm": "none"}},
    ),
    "a loop over cells": (
        {"model": {"name": "char_rnn", "implementation": "cell_loop", "kernel": "by_hand"}},
        {"model": {"name": "char_rnn", "loop": True, "implementation": "by_hand"}},
    ),
    "a recurrent layer": (
        {"model": {"name": "char_rnn", "implementation": "layer"}},
        {"model": {"name": "char_rnn", "loop": False}},
    ),
    "a model that is not registered": (
        {"model": {"name": "own", "loss": "mine", "label_smoothing": 0.1}},
        {"model": {"name": "own", "loss": "mine", "label_smoothing": 0.1}},
    ),
}


@pytest.mark.parametrize("name", OLD)
def test_the_config_of_an_older_checkpoint_gets_todays_keys(name: str) -> None:
    old, new = OLD[name]
    before = {section: dict(values) for section, values in old.items()}
    assert migrate(old) == new
    assert old == before
    assert migrate(new) == new


@pytest.mark.parametrize("old", MOVED)
def test_a_config_is_told_todays_key(old: str) -> None:
    model = {"model.loss": "steering", "model.kernel": "char_rnn"}.get(old, "mlp")
    with pytest.raises(UserError, match=rf"unknown key {old} \(the command line\); it is now {MOVED[old]}"):
        load_config({"model.name": model, "data.name": "digits"}, f"{old}=1")


def test_a_value_that_has_moved_is_told_too() -> None:
    model = {"model.name": "char_rnn", "data.name": "hello"}
    with pytest.raises(UserError, match=r"allowed: fused, by_hand; it is now model\.loop: true$"):
        load_config(model, "model.implementation=cell_loop")


def test_the_key_that_is_now_a_value_is_told_too() -> None:
    model = {"model.name": "mlp", "data.name": "digits"}
    with pytest.raises(UserError, match=r"it is now model\.norm: batch_norm$"):
        load_config(model, "model.batch_norm=true")


def test_a_file_with_the_old_keys_is_read(work: Path) -> None:
    (work / "old.yaml").write_text("model: {name: mlp, label_smoothing: 0.1}\ndata: {name: digits}\n")
    assert load_config("old.yaml").plain["objective"]["label_smoothing"] == 0.1


def test_converted_values_pass_the_check() -> None:
    data = {"data": {"name": "digits"}}
    assert (
        load_config(migrate(OLD["a smoothed classifier"][0] | data)).objective.config.label_smoothing == 0.1
    )
    assert load_config(migrate(OLD["a steering network"][0] | data)).objective.name == "mse_l1_cosine"

"""Sources become plain values that remember where each was set."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from experiments.config.sources import (
    find_file,
    is_override,
    layer_of,
    merge,
    read_file,
    read_mapping,
    read_override,
)
from experiments.errors import UserError


def test_every_path_remembers_its_file_and_line(work: Path) -> None:
    (work / "a.yaml").write_text(
        "# a comment\nname: x\ntrainer:\n  # another\n  max_epochs: 3\n\n"
        "  devices: [0,\n    1]\nmodel.hidden: [8]\n"
    )
    layer = read_file("a.yaml")
    assert layer.values == {
        "name": "x",
        "trainer": {"max_epochs": 3, "devices": [0, 1]},
        "model": {"hidden": [8]},
    }
    origins = {"name": 2, "trainer": 3, "trainer.max_epochs": 5, "trainer.devices": 7, "model.hidden": 9}
    assert {path: layer.origin(path) for path in origins} == {p: f"a.yaml:{n}" for p, n in origins.items()}
    # What wasn't set is where its nearest section was.
    assert layer.origin("trainer.strategy") == "a.yaml:3"
    assert layer.origin("data.root") == "default"


def test_values_are_those_of_the_yaml_reader(work: Path) -> None:
    text = "a: {b: [1, 2.5, null, true, text, '010'], c: {d: {}}}\ne: [{f: 1}, {g: 2}]\nh: \"x y\"\n"
    (work / "a.yaml").write_text(text)
    assert read_file("a.yaml").values == yaml.safe_load(text)


def test_anchors_and_merge_keys_work_and_a_byte_order_mark_does_no_harm(work: Path) -> None:
    (work / "a.yaml").write_text(
        "\ufeffa: &one {x: 1, y: 2}\r\nb:\r\n  <<: *one\r\n  y: 3\r\n", encoding="utf-8"
    )
    assert read_file("a.yaml").values == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


def test_a_name_of_a_persons_choice_may_hold_a_dot(work: Path) -> None:
    (work / "a.yaml").write_text("variants:\n  lr_0.1:\n    optimizer.lr: 0.1\n")
    layer = read_file("a.yaml")
    assert layer.values == {"variants": {"lr_0.1": {"optimizer": {"lr": 0.1}}}}
    assert layer.origin("variants.lr_0.1.optimizer.lr") == "a.yaml:3"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=1", 1),
        ("a.b=1e-3", 1e-3),
        ("a.b=null", None),
        ("a.b=", None),
        ("a.b=[1, 2]", [1, 2]),
        ("a.b={c: 1}", {"c": 1}),
        ("a.b=x=y", "x=y"),
        ("a.b='no'", "no"),
        ("a.b=true", True),
        ("a.b=two words", "two words"),
    ],
)
def test_an_overrides_value_is_yaml(text: str, value: object) -> None:
    layer = read_override(text)
    assert layer.values == {"a": {"b": value}}
    assert layer.origin("a.b") == "the command line"


def test_a_value_and_a_section_of_the_same_name_contradict_each_other() -> None:
    with pytest.raises(UserError, match="already has a value"):
        read_mapping({"a": 1, "a.b": 2})
    with pytest.raises(UserError, match="already has a value"):
        read_mapping({"a.b": 1, "a.b.c": 2})


def test_layer_of_does_not_change_what_it_is_given() -> None:
    given = {"a.b": {"c": 1}, "a": {"d": 2}}
    layer = layer_of(given, lambda path: path)
    assert layer.values == {"a": {"b": {"c": 1}, "d": 2}}
    assert given == {"a.b": {"c": 1}, "a": {"d": 2}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a=1", True), ("a.b=x.yaml", True), ("=1", True), ("runs/lr=1/a.yaml", False), ("a.yaml", False)],
)
def test_what_is_an_override(text: str, expected: bool) -> None:
    assert is_override(text) is expected


def test_a_config_is_looked_up_as_given_then_in_the_repository(work: Path) -> None:
    published = find_file("configs/mnist_cnn.yaml")
    assert published == find_file("mnist_cnn.yaml") == find_file("mnist_cnn")
    own = work / "mnist_cnn.yaml"
    own.write_text("name: mine\n")
    assert find_file("mnist_cnn.yaml").resolve() == own.resolve()
    (work / "folder.yaml").mkdir()
    with pytest.raises(UserError, match=r"no config file folder\.yaml"):
        find_file("folder.yaml")


def test_the_merge_is_omegaconfs_where_no_piece_changes() -> None:
    """The oracle: OmegaConf's own merge of the same mappings."""
    layers: list[dict[str, Any]] = [
        {"model": {"name": "mlp", "hidden": [1, 2]}, "trainer": {"max_epochs": 3}, "seed": 1},
        {"model": {"dropout": 0.5}, "data": {"augment": {"shift": 2}}, "seed": 2},
        {"data": {"augment": {"flip": 0.5}}, "model": {"hidden": [3]}},
    ]
    merged = merge(*(read_mapping(layer) for layer in layers))
    assert merged.values == OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.create, layers)))

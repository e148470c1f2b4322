"""What the help, the reference, a resumed run and an evaluation read from the schemas."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from datamodules.configs.chat_corpus import ChatConfig
from datamodules.setting import setting
from experiments.config import registry
from experiments.config.check import load_config
from experiments.config.comparison import ComparisonConfig
from experiments.config.describe import Setting, describe, settings_of
from experiments.config.root import RootConfig
from experiments.config.schema import build
from experiments.config.sources import Layer
from experiments.config.trainer import TrainerConfig

SCHEMAS = [RootConfig, TrainerConfig] + [
    registry.schema(kind, name) for kind, names in registry.CATALOG.items() for name in names
]


@dataclass(kw_only=True)
class Inner:
    chance: float = setting(0.0, "A probability.", min=0, max=1, resume="free")


@dataclass(kw_only=True)
class Schema:
    width: int = setting(help="How wide.", min=1)
    on: bool = setting(False, "Whether.")
    kind: Literal["x", "y"] | None = setting(None, "Which.")
    word: str | None = setting(None, "What.", choices=("red", "green"))
    sizes: list[int] = setting([], "Sizes.", min=1)
    inner: Inner = setting(help="More.", default_factory=Inner)


def test_every_field_is_listed_nested_ones_by_their_path() -> None:
    found = {s.key: s for s in describe(Schema, "part.")}
    assert list(found) == [f"part.{k}" for k in ("width", "on", "kind", "word", "sizes", "inner.chance")]
    width, chance, word = found["part.width"], found["part.inner.chance"], found["part.word"]
    assert (width.allowed, width.default, width.help) == ("an integer ≥ 1", "required", "How wide.")
    assert (chance.allowed, chance.default, chance.resume) == ("a number ≥ 0 and ≤ 1", "0.0", "free")
    assert (word.allowed, word.default, word.resume) == ("red, green or null", "null", "same")


def test_choices_are_listed_where_there_are_few() -> None:
    choices = {s.key: s.choices for s in describe(Schema)}
    assert choices == {
        "width": (),
        "on": ("true", "false"),
        "kind": ("x", "y", "null"),
        "word": ("red", "green", "null"),
        "sizes": (),
        "inner.chance": (),
    }


def test_the_settings_of_a_config_are_those_of_its_sections() -> None:
    plain = load_config({"model.name": "mlp", "data.name": "digits"}).plain
    keys = {s.key for s in settings_of(plain)}
    assert {"name", "seed", "trainer.max_epochs", "model.hidden", "data.augment.shift", "optimizer.lr"} < keys
    assert "data.root" not in keys
    assert {s.key for s in settings_of({"seeds": [1]})} - {s.key for s in settings_of({})} == {
        s.key for s in describe(ComparisonConfig, "comparison.")
    }
    assert {s.key for s in settings_of({"data": None})} == {
        s.key for s in (*describe(RootConfig), *describe(TrainerConfig, "trainer."))
    }


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_every_field_of_the_suites_schemas_has_help_and_a_default_that_is_allowed(schema: Any) -> None:
    """The defaults go through the same checks as a file's values."""
    for one in describe(schema):
        assert one.help.endswith("."), one.key
    given = {"path": "chat.jsonl"} if schema is ChatConfig else {}  # it needs a path or a stage
    if not any(one.default == "required" for one in describe(schema)):
        assert build(schema, dataclasses.asdict(schema(**given)), "x", Layer()) == schema(**given)


def everywhere() -> list[Setting]:
    """The settings of every schema that a fit can have."""
    found = [*describe(RootConfig), *describe(TrainerConfig, "trainer.")]
    for kind in ("model", "data", "optimizer", "schedule"):
        for name in registry.CATALOG[kind]:
            found += describe(registry.schema(kind, name), f"{kind}.")
    return found


def test_what_may_change_on_a_resume_is_where_how_long_and_what_is_shown() -> None:
    trainer = [
        "max_epochs",
        "max_steps",
        "max_minutes",
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "dashboard",
        "progress_bar",
        "profiler",
        "compile",
        "checkpoint_every_n_steps",
        "early_stopping_patience",
        "limit_test_batches",
    ]
    expected = {
        "name",
        "data.root",
        "data.num_workers",
        "model.init_from",
        *(f"trainer.{k}" for k in trainer),
    }
    assert {s.key for s in everywhere() if s.resume == "free"} == expected
    assert expected.isdisjoint(s.key for s in everywhere() if s.resume == "same")


def test_what_may_change_in_an_evaluation_keeps_training_examples_out_of_it() -> None:
    marks = {
        "free": {"data.root", "data.eval_batch_size", "data.num_workers", "data.pipeline"},
        "same": {
            *("data.fold", "data.folds", "data.split_seed", "data.val_fraction", "data.test_fraction"),
            *("data.val_path", "data.max_tokens"),
        },
    }
    data = [s for s in everywhere() if s.key.startswith("data.")]
    for mark, keys in marks.items():
        assert {s.key for s in data if s.evaluation == mark} == keys
        assert keys.isdisjoint(s.key for s in data if s.evaluation != mark)

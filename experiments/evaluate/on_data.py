"""Evaluate a checkpoint on the data set that it was trained for."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.config import registry
from experiments.config.describe import describe
from experiments.config.root import Config
from experiments.config.sources import Layer, read_override
from experiments.errors import UserError
from experiments.training.checkpoint_path import open_checkpoint

SPLITS = ("test", "val")
ONE_DEVICE = ("trainer.devices=1", "trainer.num_nodes=1", "trainer.strategy=auto")
"""Defaults of an evaluation. The number of machines used in training does not matter here."""
_SHOWN = 150  # Characters of a value in an error message.
SIZES = ("train_size", "val_size", "test_size", "bytes_per_token", "test_bytes_per_token")


def evaluate(checkpoint: str | Path, *overrides: str, split: str = "test") -> dict[str, float]:
    """Evaluate a checkpoint on the data set it was trained for; return the logged metrics by name.

    Args:
        checkpoint: The file, or a run directory for its best checkpoint.
        overrides: `key=value` strings of the sections `data` and `trainer`.
        split: `"test"` or `"val"`.

    Raises:
        UserError: An override would change the model, the data differs from the training data, or the
            checkpoint cannot be loaded.
    """
    path, saved = open_checkpoint(checkpoint)
    for text in overrides:
        check_override(read_override(text), split, saved["config"]["data"]["name"])

    from experiments.console import quiet_lightning
    from experiments.training import build
    from experiments.training import trainer as trainers
    from experiments.training.initial_weights import init_from
    from experiments.training.trainer import global_state_kept
    from experiments.training.vocabulary import check_vocabulary
    from lit_modules.base import LitModule

    restored = build.restore(saved, path, *ONE_DEVICE, *overrides)
    asked = restored.experiment.trainer
    usable, notes = trainers.at_hand(asked)
    given = {key for text in overrides for key in read_override(text).origins}
    if any(f"trainer.{key}" in given and value != getattr(usable, key) for key, value in vars(asked).items()):
        trainers.check_hardware(asked)  # what the user asks for is not replaced
    trainers.check_hardware(usable)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    settings, _ = trainers.settle(usable, saved.get("resolved", {}))
    settings = dataclasses.replace(settings, profiler=None)
    with global_state_kept(), quiet_lightning():
        is_other = init_from(restored.experiment) is not None or _is_other_data(
            overrides, restored.experiment
        )
        tokenizer = saved["info"].get("tokenizer") if is_other else None
        datamodule = build.build_data(restored.experiment, tokenizer)
        check_vocabulary(saved, datamodule.info, path)
        check_data(restored.info, datamodule.info)
        if isinstance(restored.module, LitModule):
            restored.module.measure_on(datamodule.info)
        build.compile_network(restored.module, settings.compile)
        trainer = trainers.build_trainer(settings, run_dir=None, dashboard=None, resume=None)
        run = trainer.test if split == "test" else trainer.validate
        run(restored.module, datamodule=datamodule, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def check_override(override: Layer, split: str, data: str) -> None:
    """Refuse a setting that changes the model or may move training examples into the evaluated split.

    `data` is the short name of the data set, which says what each of its settings decides.

    Raises:
        UserError: The setting must stay as it was in training.
    """
    for key in override.values:
        if key not in ("data", "trainer"):
            raise UserError(
                f"{list(override.origins)[-1]}: an evaluation keeps the checkpoint's {key}; "
                "only data.… and trainer.… can be set"
            )
    marks = {s.key: s.evaluation for s in describe(registry.schema("data", data), "data.")}
    free = [key for key, mark in marks.items() if mark == "free"]
    for path in override.origins:
        if split == "val" and path.startswith("data.") and path not in free:
            raise UserError(
                f"{path}: with --split val it could move training examples into the validation split; "
                f"the settings of data that can be changed are {', '.join(free)}"
            )
        if marks.get(path) == "same":
            raise UserError(
                f"{path}: it could move training examples into the test split; keep the value from training"
            )


def _is_other_data(overrides: Sequence[str], experiment: Config) -> bool:
    """Return whether overrides choose other data, so that the model's vocabulary has to read it."""
    settings = describe(registry.schema("data", experiment.data.name), "data.")
    free = {setting.key for setting in settings if setting.evaluation == "free"}
    changed = {path for text in overrides for path in read_override(text).origins}
    return any(path.startswith("data.") and path not in free for path in changed)


def check_data(trained: Any, found: Any) -> None:
    """Refuse data that is described differently from the training data. Sizes may differ.

    Raises:
        UserError: A description differs; the message names the first difference and both values.
    """
    old, new = trained.to_dict(), found.to_dict()
    for key in old:
        if key not in SIZES and old[key] != new.get(key):
            raise UserError(
                f"data: {key} is {_short(new.get(key))}, but the model was trained with {_short(old[key])}"
            )


def _short(value: Any) -> str:
    """Shorten a value for a message; a vocabulary has thousands of words."""
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"

"""Test a checkpoint again, from its file alone, and print the metrics. Nothing is written.

The model is rebuilt from the config that the checkpoint carries, and so is the data set, which is fetched if
it is not there. key=value settings say otherwise where the data lies or what to compute on, for example
data.root=/data, data.eval_batch_size=100, trainer.accelerator=cpu. Model, optimizer and schedule stay as they
were trained. One device is used unless trainer.devices says more.

With --text a language model is scored on any text instead, and CHECKPOINT may also be a pre-trained model, as
for experiments.sample. Every token but the first is predicted once, with at least context − stride tokens in
sight.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from experiments import cli
from experiments.config import registry
from experiments.config.describe import describe
from experiments.config.sources import Layer, read_override
from experiments.console import console
from experiments.errors import UserError
from experiments.evaluate_text import evaluate_text
from experiments.language_models.opening import PRECISIONS, open_language_model
from experiments.training.run_directory import is_worker

SPLITS = ("test", "val")
# Training's own spread over machines says nothing of where the checkpoint is evaluated.
ONE_DEVICE = ("trainer.devices=1", "trainer.num_nodes=1", "trainer.strategy=auto")
_SHOWN = 150
SIZES = ("train_size", "val_size", "test_size", "bytes_per_token", "test_bytes_per_token")


def evaluate(checkpoint: str | Path, *overrides: str, split: str = "test") -> dict[str, float]:
    """Evaluate a checkpoint on the data set it was trained for.

    Args:
        checkpoint: The file, or a run directory, whose best checkpoint is taken.
        overrides: `key=value` strings of the sections `data` and `trainer`.
        split: `"test"` or `"val"`.

    Returns:
        The logged metrics by name, such as `test/accuracy`.

    Raises:
        UserError: An override would change the model, the data isn't what the model was trained on, or the
            checkpoint can't be had.
    """
    path, saved = cli.open_checkpoint(checkpoint)
    for text in overrides:
        check_override(read_override(text), split, saved["config"]["data"]["name"])

    from experiments.training import build
    from experiments.training import trainer as trainers
    from experiments.training.process_state import global_state_kept, quiet_lightning

    restored = build.restore(saved, path, *ONE_DEVICE, *overrides)
    trainers.check_hardware(restored.experiment.trainer)
    settings, _ = trainers.settle(restored.experiment.trainer, saved.get("resolved", {}))
    settings = dataclasses.replace(settings, profiler=None)
    with global_state_kept(), quiet_lightning():
        datamodule = build.build_data(restored.experiment)
        build.check_vocabulary(saved, datamodule.info, path)
        check_data(restored.info, datamodule.info)
        if settings.compile:
            getattr(restored.module, "network", restored.module).compile()
        trainer = trainers.build_trainer(settings, run_dir=None, dashboard=None, resume=None)
        run = trainer.test if split == "test" else trainer.validate
        run(restored.module, datamodule=datamodule, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def check_override(override: Layer, split: str, data: str) -> None:
    """Refuse a setting that changes the model or may put training examples among those evaluated.

    Args:
        override: One `key=value` of the command line.
        split: `"test"` or `"val"`.
        data: The short name of the data set, which says what each of its settings decides.

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
                f"{path}: with --split val it could put training examples among the validation's; "
                f"of data, {', '.join(free)} can be set"
            )
        if marks.get(path) == "same":
            raise UserError(
                f"{path}: it could put training examples among the test's; leave it as it was trained"
            )


def check_data(trained: Any, found: Any) -> None:
    """Refuse data whose description is another than that of the training data, its sizes aside.

    Raises:
        UserError: Names the first difference, with both values.
    """
    old, new = trained.to_dict(), found.to_dict()
    for key in old:
        if key not in SIZES and old[key] != new.get(key):
            raise UserError(
                f"data: its {key} is {_short(new.get(key))}, but the model was trained on {_short(old[key])}"
            )


def _short(value: Any) -> str:
    """A value as a message can hold it: a vocabulary has thousands of words."""
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"


@cli.command
def main(arguments: list[str]) -> None:
    """Evaluate what the command line names; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a run directory: its best")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of data and trainer")
    parser.add_argument("--split", choices=SPLITS, default="test", help="which examples; default: test")
    parser.add_argument("--text", metavar="FILE", help="a UTF-8 file or folder to score a language model on")
    parser.add_argument(
        "--stride", type=int, metavar="N", help="tokens between two windows; default: half the context"
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="with --text: of the weights; default: fp32")
    options = parser.parse_intermixed_args(arguments)
    if options.text is not None:
        _evaluate_text(options)
        return
    if options.stride is not None or options.precision is not None:
        raise UserError("--stride and --precision go with --text")
    path = cli.find_checkpoint(options.checkpoint)
    metrics = evaluate(path, *options.overrides, split=options.split)
    if not is_worker():
        table = Table("metric", "value")
        for name, value in metrics.items():
            table.add_row(name, f"{value:.4f}")
        print(f"{path}, {options.split} split")
        console().print(table)


def _evaluate_text(options: argparse.Namespace) -> None:
    if options.overrides:
        raise UserError(f"{options.overrides[0]}: with --text there is no data set and no Trainer to set")
    if not Path(options.text).exists():
        raise UserError(f"--text {options.text}: there is no such file or folder")
    model = open_language_model(options.checkpoint, options.precision or "fp32")
    metrics = evaluate_text(model, options.text, stride=options.stride)
    table = Table("metric", "value")
    for name, value in metrics.items():
        table.add_row(name, f"{value:,.0f}" if name in ("tokens", "bytes") else f"{value:.4f}")
    context = "" if model.context_length is None else f", context {model.context_length}"
    print(f"{model.name} on {options.text}{context}")
    console().print(table)


if __name__ == "__main__":
    sys.exit(main(None))

"""Evaluate a checkpoint and print the metrics. Nothing is written.

The model is rebuilt from the config in the checkpoint. So is the data set, which is downloaded if it is
missing. Settings of the sections data and trainer can be changed as long as the examples stay the same, for
example data.root=/data, data.eval_batch_size=100 or trainer.accelerator=cpu. One device is used unless
trainer.devices is given.

With --text, a language model is scored on any text. CHECKPOINT may then also be a pre-trained model, as for
experiments.sample. Each token but the first is predicted once, from at least context − stride earlier tokens
(fewer at the start of the text).
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from experiments import cli
from experiments.console import announce, print_table
from experiments.errors import UserError
from experiments.evaluate.on_data import SPLITS, evaluate
from experiments.evaluate.on_text import evaluate_text
from experiments.language_models.loaded_model import PRECISIONS
from experiments.language_models.opening import open_language_model
from experiments.language_models.pretrained_models import is_pretrained
from experiments.training.checkpoint_path import find_checkpoint
from experiments.training.run_directory import is_worker


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("evaluate", __doc__)
    add = parser.add_argument
    add(
        "checkpoint",
        type=cli.file_or_name,
        metavar="CHECKPOINT",
        help="a checkpoint, or a run directory for its best checkpoint",
    )
    add("overrides", nargs="*", default=[], metavar="key=value", help="settings of data and trainer")
    add("--split", choices=SPLITS, default="test", help="split to evaluate on; default: test")
    add(
        "--text",
        type=cli.file_or_name,
        metavar="FILE",
        help="a UTF-8 file or folder to score a language model on",
    )
    add("--stride", type=int, metavar="N", help="tokens between two windows; default: half the context")
    add("--precision", choices=PRECISIONS, help="with --text: number format of the weights; default: fp32")
    return parser


@cli.command
def main(arguments: list[str]) -> None:
    """Evaluate the checkpoint named on the command line."""
    options = build_parser().parse_intermixed_args(arguments)
    if options.text is not None:
        _evaluate_text(options)
        return
    if options.stride is not None or options.precision is not None:
        raise UserError("--stride and --precision need --text")
    if is_pretrained(options.checkpoint):
        raise UserError(
            f"{options.checkpoint} is a pre-trained model without a data set; score a text with --text FILE"
        )
    path = find_checkpoint(options.checkpoint)
    announce(f"evaluating {path}")
    metrics = evaluate(path, *options.overrides, split=options.split)
    if not is_worker():
        print(f"{path}, {options.split} split")
        _print_table({name: f"{value:.4f}" for name, value in metrics.items()})


def _evaluate_text(options: argparse.Namespace) -> None:
    if options.overrides:
        raise UserError(f"{options.overrides[0]}: with --text there is no data set and no Trainer to set")
    if not Path(options.text).exists():
        raise UserError(f"--text {options.text}: there is no such file or folder")
    announce(f"opening {options.checkpoint}")
    model = open_language_model(options.checkpoint, options.precision or "fp32")
    metrics = evaluate_text(model, options.text, stride=options.stride)
    context = "" if model.context_length is None else f", context {model.context_length}"
    print(f"{model.name} on {options.text}{context}")
    whole = ("tokens", "bytes")
    _print_table(
        {name: f"{value:,.0f}" if name in whole else f"{value:.4f}" for name, value in metrics.items()}
    )


def _print_table(metrics: Mapping[str, str]) -> None:
    table = Table("metric", "value")
    for name, value in metrics.items():
        table.add_row(name, value)
    print_table(table)


if __name__ == "__main__":
    sys.exit(main(None))

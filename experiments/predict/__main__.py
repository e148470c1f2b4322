"""Predict with a trained model: classes of images, texts and table rows, numbers, words, next tokens.

What the inputs are depends on the model:

- A model of images takes PNG, JPEG, BMP, GIF, TIFF or WebP files of any size. A model of single objects, like
  MNIST's digits, takes them dark on light or light on dark.
- A model of tables takes CSV or Parquet files with the columns that it was trained on, and answers each row.
- A classifier of texts takes texts. A character RNN that labels characters writes a label for each one.
- A sequence-to-sequence model takes words or texts. It writes the best answers for each, with a score
  (log-probability, normalized by length) and a probability. If the model writes from both ends, these are
  means over both directions.
- A language model takes texts and names the most probable next tokens; `sample` continues texts.

The input `-` is standard input: CSV for a model of tables, otherwise one input per line. `--from FILE` reads
one input per line of a file.

If an input cannot be read, an error is printed, the others are still answered, and the exit status is 1.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import cli
from experiments.console import announce
from experiments.errors import UserError
from experiments.training.checkpoint_path import find_checkpoint, open_checkpoint

if TYPE_CHECKING:
    from experiments.predict.prediction import Prediction
    from experiments.training.build import Restored

TAKES = {
    "images": "images",
    "sequence_pairs": "words",
    "labelled_text": "texts",
    "sequence_labelling": "texts",
    "text": "texts",
    "labelled_table": "tables",
    "table": "tables",
    "vector_pairs": "tables",
}
"""The inputs of a model, by the kind of its training data."""


def predict(model: "Restored", inputs: list[str], **options: Any) -> "Iterator[Prediction | Exception]":
    """Ask a model about each input. An input that cannot be read yields its error.

    Args:
        model: Any model of the suite.
        inputs: Files, words or texts, as the kind of model takes them.
        options: `n_best` and `beam_size`, for words only; None for the default.

    Raises:
        UserError: The model is of another kind, or an option does not apply to it.
    """
    kind = model.info.kind
    takes = TAKES.get(kind)
    if takes is None:
        raise UserError(
            f"{model.experiment.model.name} was trained on data of the kind {kind!r}; predict takes models "
            f"of {', '.join(dict.fromkeys(TAKES.values()))}"
        )
    if takes == "words":
        from experiments.predict.words import predict_words

        return predict_words(model, inputs, **options)
    for name, value in options.items():
        if value is not None:
            raise UserError(
                f"--{name.replace('_', '-')} is an option for words, but this model takes {takes}"
            )
    if takes == "images":
        if not hasattr(model.module, "num_outputs"):
            raise UserError(f"{model.experiment.model.name} predicts no classes; train a classifier from it")
        from experiments.predict.images import predict_images

        return predict_images(model, inputs)
    if takes == "tables":
        from experiments.predict.rows import predict_rows

        return predict_rows(model, inputs)
    from experiments.predict.texts import predict_texts

    return predict_texts(model, inputs)


def read_inputs(given: list[str], source: Path | None, *, of_tables: bool) -> list[str]:
    """Return the inputs of the command line, of standard input and of the file of `--from`.

    Raises:
        UserError: A file can't be read, or there is no input.
    """
    if of_tables:
        if source is not None:
            raise UserError(f"--from {source}: this model takes tables; give the table itself: {source}")
        inputs = given
    else:
        inputs = [line for word in given for line in (_lines("-") if word == "-" else [word])]
        inputs += [] if source is None else _lines(str(source))
    if not inputs:
        raise UserError("there is no input; give one, or --from FILE, or - for standard input")
    return inputs


def _lines(name: str) -> list[str]:
    """Return the lines of a file that are not empty; `-` is standard input."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{'standard input' if name == '-' else name} can't be read: {reason}") from None
    return [line for line in text.removeprefix("\ufeff").splitlines() if line.strip()]


def write(predictions: "Iterable[Prediction | Exception]", form: str) -> bool:
    """Print predictions, and errors to the error stream; return whether all inputs were answered."""
    good, table = True, csv.writer(sys.stdout, lineterminator="\n")
    columns: list[str] = []
    for prediction in predictions:
        if isinstance(prediction, Exception):
            print(f"error: {prediction}", file=sys.stderr)
            good = False
        elif form == "json":
            print(json.dumps(prediction.record, ensure_ascii=False))
        elif form == "csv":
            for row in prediction.rows:
                if not columns:
                    columns = list(row)
                    table.writerow(columns)
                table.writerow([row[column] for column in columns])
        else:
            print("\n".join(prediction.lines))
    return good


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = cli.parser("predict", __doc__)
    add = parser.add_argument
    add(
        "checkpoint",
        type=cli.file_or_name,
        metavar="CHECKPOINT",
        help="a checkpoint, or a run directory for its best checkpoint",
    )
    add(
        "inputs",
        type=cli.file_or_name,
        nargs="*",
        metavar="INPUT",
        help="a file, a word or a text; - reads standard input",
    )
    add("--from", dest="source", type=cli.path, metavar="FILE", help="a file with one input per line")
    add("--n-best", type=int, metavar="N", help="answers per word; default: 3, or the beam size if less")
    add("--beam-size", type=int, metavar="N", help="hypotheses per word; default: 5, or n-best if more")
    forms = parser.add_mutually_exclusive_group()
    add = forms.add_argument
    add(
        "--json",
        action="store_const",
        const="json",
        dest="form",
        help="print one JSON object per line, with all answers or classes",
    )
    add(
        "--csv",
        action="store_const",
        const="csv",
        dest="form",
        help="print a CSV table: a row for each answer",
    )
    return parser


@cli.command
def main(arguments: list[str]) -> int:
    """Run a checkpoint on the inputs of the command line."""
    options = build_parser().parse_intermixed_args(arguments)
    if not options.inputs and options.source is None:
        raise UserError("there is no input; give one, or --from FILE, or - for standard input")
    announce(f"opening {find_checkpoint(options.checkpoint)}")
    path, saved = open_checkpoint(options.checkpoint)

    from experiments.training import build

    model = build.restore(saved, path)
    of_tables = TAKES.get(model.info.kind) == "tables"
    inputs = read_inputs(options.inputs, options.source, of_tables=of_tables)
    predictions = predict(model, inputs, n_best=options.n_best, beam_size=options.beam_size)
    return int(not write(predictions, options.form))


if __name__ == "__main__":
    sys.exit(main(None))

"""Classify images with an image classifier, or predict answers for words with a sequence-to-sequence model.

Images are PNG, JPEG, BMP, GIF, TIFF or WebP files of one object each, of any size, dark on light or light on
dark. Each image is framed as the training images were. The output is one line per image: the class, its
probability and the next two classes.

Words are spelled in the characters of the training data, in either case. The output is the best answers for
each word, each with its score (log-probability, normalized by length) and its probability. If the model
writes from both ends, these are means over both directions.

If an input cannot be read, an error is printed, the others are still answered, and the exit status is 1.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from experiments import cli
from experiments.console import announce
from experiments.errors import UserError
from experiments.predict.prediction import Prediction
from experiments.training.checkpoint_path import find_checkpoint, open_checkpoint

if TYPE_CHECKING:
    from experiments.training.build import Restored


def predict(model: "Restored", inputs: list[str], **options: Any) -> Iterator[Prediction | Exception]:
    """Ask a model about each input. An input that cannot be read yields its error.

    Args:
        model: An image classifier or a sequence-to-sequence model.
        inputs: Image files, or words.
        options: `n_best` and `beam_size`, for words only; None for the default.

    Raises:
        UserError: The model is of another kind, or an option does not apply to it.
    """
    from datamodules.info import SequencePairInfo

    if isinstance(model.info, SequencePairInfo):
        from experiments.predict.words import predict_words

        return predict_words(model, inputs, **options)
    from experiments.predict.images import predict_images

    for name, value in options.items():
        if value is not None:
            raise UserError(f"--{name.replace('_', '-')} is an option for words, but this model takes images")
    return predict_images(model, inputs)


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
    add("inputs", type=cli.file_or_name, nargs="+", metavar="INPUT", help="an image file, or a word")
    add("--n-best", type=int, metavar="N", help="answers per word; default: 3, or the beam size if less")
    add("--beam-size", type=int, metavar="N", help="hypotheses per word; default: 5, or n-best if more")
    add("--json", action="store_true", help="print one JSON object per line, with all answers or classes")
    return parser


@cli.command
def main(arguments: list[str]) -> int:
    """Run a checkpoint on the inputs of the command line."""
    options = build_parser().parse_intermixed_args(arguments)
    announce(f"opening {find_checkpoint(options.checkpoint)}")
    path, saved = open_checkpoint(options.checkpoint)

    from experiments.training import build

    model = build.restore(saved, path)
    failed = False
    for prediction in predict(model, options.inputs, n_best=options.n_best, beam_size=options.beam_size):
        if isinstance(prediction, Exception):
            print(f"error: {prediction}", file=sys.stderr)
            failed = True
        elif options.json:
            print(json.dumps(prediction.record, ensure_ascii=False))
        else:
            print("\n".join(prediction.lines))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(None))

"""Ask a checkpoint: an image classifier what pictures show, a sequence-to-sequence model to write for words.

Pictures are PNG, JPEG, BMP, GIF, TIFF or WebP files of one object each, of any size, dark on light or light
on dark; each is framed as the training images were. Each gets a line: class, probability and the next two.
One that can't be read is named on the standard error, the others are still classified, and the exit status is
then 1.

Words are spelled in the characters that the model was trained on, in either case. Each gets its best answers,
with the score (log-probability by length) that they are ranked by and the probability of the whole; where a
model writes from both ends, these are means of both ways.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import cli
from experiments.errors import UserError
from experiments.prediction import Prediction

if TYPE_CHECKING:
    from experiments.training.build import Restored


def load_model(checkpoint: str | Path) -> "Restored":
    """Restore a model from its checkpoint alone.

    Args:
        checkpoint: The file, or a run directory, whose best checkpoint is taken.

    Raises:
        UserError: It can't be had.
    """
    path, saved = cli.open_checkpoint(checkpoint)

    from experiments.training import build

    return build.restore(saved, path)


def predict(model: "Restored", inputs: list[str], **options: Any) -> Iterator[Prediction | Exception]:
    """Ask a model about each input; one that can't be used yields its error.

    Args:
        model: What `load_model` gives.
        inputs: Picture files, or words.
        options: `n_best` and `beam_size`, of words alone; `None` for the default.

    Raises:
        UserError: The model is of another kind, an option doesn't go with it, or a word can't be read.
    """
    from datamodules.info import SequencePairInfo

    if isinstance(model.info, SequencePairInfo):
        from experiments.predict_words import predict_words

        return predict_words(model, inputs, **options)
    from experiments.predict_images import predict_images

    for name, value in options.items():
        if value is not None:
            raise UserError(f"--{name.replace('_', '-')} goes with words, and this model takes pictures")
    return predict_images(model, inputs)


@cli.command
def main(arguments: list[str]) -> int:
    """Ask about what the command line names; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a run directory: its best")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="a picture file, or a word")
    parser.add_argument(
        "--n-best",
        type=int,
        metavar="N",
        help="answers for each word; default: 3, or the beam's size if less",
    )
    parser.add_argument(
        "--beam-size", type=int, metavar="N", help="hypotheses for each word; default: 5, or n-best if more"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, with all there is")
    options = parser.parse_intermixed_args(arguments)
    model = load_model(options.checkpoint)
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

"""Make a steering vector from sentences that contrast in one respect.

The vector is the mean hidden state of the --plus sentences minus that of the --minus sentences, at one layer.
The sentences are read as answers of the model. `experiments.sample MODEL --steer FILE` adds the vector to the
output of that layer, for each token. The file names the model, the layer and the sentences.
"""

import argparse
import sys

from experiments import cli
from experiments.console import announce
from experiments.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = cli.parser("steering", __doc__)
    add = parser.add_argument
    add("action", choices=("vector",), help="what to make")
    add(
        "model",
        type=cli.file_or_name,
        metavar="MODEL",
        help="a checkpoint, a run directory, or a pre-trained model",
    )
    sides = {"plus": "a sentence with the wanted behaviour", "minus": "a sentence without it"}
    for side, text in sides.items():
        add(f"--{side}", action="append", required=True, metavar="TEXT", help=f"{text}; may be repeated")
    add("--layer", type=int, required=True, metavar="I", help="index of the layer, starting at 0")
    text = "the safetensors file to write"
    add("-o", "--output", type=cli.path, required=True, metavar="FILE", help=text)
    text = "number format of the weights; auto (default): bf16 if the machine computes it fast, else fp32"
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help=text)
    return parser


@cli.command
def main(arguments: list[str]) -> None:
    """Make a steering vector; see `--help`."""
    options = build_parser().parse_args(arguments)
    if options.output.suffix != ".safetensors":
        raise UserError(f"--output {options.output}: the name must end in .safetensors")
    for text in (*options.plus, *options.minus):
        if not text.strip():
            raise UserError("--plus and --minus need sentences, but one is empty")
    announce(f"opening {options.model}")

    from experiments.language_models.opening import open_language_model
    from experiments.steering.contrast_vector import make_vector, read_vector, save_vector

    if options.output.exists():
        try:
            read_vector(options.output)
        except UserError as error:
            raise UserError(
                f"--output {options.output} exists and is not a steering vector: choose another name"
            ) from error
    model = open_language_model(options.model, options.precision, laid_out=False)
    made, state_norm = make_vector(model, plus=options.plus, minus=options.minus, layer=options.layer)
    save_vector(options.output, made)
    norm = float(made.vector.norm())
    print(f"{options.output} written: {model.name} in {model.precision}, layer {options.layer}")
    print(f"  norm of the vector {norm:.3g}, of a hidden state there {state_norm:.3g}")


if __name__ == "__main__":
    sys.exit(main(None))

"""Read a prompt set with a frozen language model and save the hidden states for a steering network.

The file holds two vectors for each prompt and layer: h, the hidden state of the last prompt token, and z, the
mean hidden state of the wanted answers minus that of the unwanted answers. An existing file is reused if its
model, prompts, layers and template are the same, and refused otherwise.
"""

import argparse
import dataclasses
import sys
import time

from experiments import cli
from experiments.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = cli.parser("extract", __doc__)
    add = parser.add_argument
    add(
        "model",
        type=cli.file_or_name,
        metavar="MODEL",
        help="a checkpoint, a run directory, or a pre-trained model",
    )
    add(
        "prompts",
        type=cli.file_or_name,
        metavar="PROMPTS",
        help="a prompt set: a folder, or the name of an included set",
    )
    add("--layers", required=True, metavar="I,J,…", help="layer indices, starting at 0")
    add("--output", type=cli.path, required=True, metavar="FILE", help="the safetensors file to write")
    add("--template", choices=("chat", "plain"), help="default: chat if the model has a chat format")
    add(
        "--position",
        choices=("last", "mean"),
        default="last",
        help="hidden state of an answer: of its last token, or the mean over its tokens; default: last",
    )
    add(
        "--answers",
        type=int,
        default=0,
        metavar="K",
        help="number of wanted and of unwanted answers for each prompt, taken in turn; default: 0, all",
    )
    add("--batch-size", type=int, default=32, metavar="B", help="prompts in a batch; default: 32")
    add(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="precision of the weights; default: fp32",
    )
    return parser


def read_layers(text: str) -> list[int]:
    """Parse the value of `--layers`.

    Raises:
        UserError: The value is not a list of different whole numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"--layers {text!r}: give different layers separated by commas, such as 12,18")
    return [int(part) for part in parts]


@cli.command
def main(arguments: list[str]) -> None:
    """Extract hidden states; see `--help`."""
    options = build_parser().parse_args(arguments)
    if options.batch_size < 1 or options.answers < 0:
        raise UserError(
            f"--batch-size {options.batch_size} must be at least 1 and --answers {options.answers} at least 0"
        )
    layers = read_layers(options.layers)

    from experiments.language_models.opening import open_language_model
    from experiments.steering.extraction import extract, open_prompt_set
    from experiments.steering.states_manifest import in_words

    prompts = open_prompt_set(options.prompts)
    model = open_language_model(options.model, options.precision, laid_out=False)
    existed, start = options.output.exists(), time.perf_counter()

    def show(done: int, count: int) -> None:
        if done == count or done // options.batch_size % 20 == 0:
            print(f"{done} of {count} prompts in {time.perf_counter() - start:.0f} s", file=sys.stderr)

    manifest = extract(
        model,
        prompts,
        options.output,
        layers=layers,
        template=options.template,
        position=options.position,
        answers=options.answers,
        batch_size=options.batch_size,
        show=show,
    )
    print(f"{options.output} {'is up to date' if existed else 'written'}")
    for name, value in dataclasses.asdict(manifest).items():
        print(f"  {name}: {in_words(value)}")


if __name__ == "__main__":
    sys.exit(main(None))

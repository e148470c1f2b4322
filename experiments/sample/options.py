r"""Continue texts with a language model, and show each text while it grows.

The model is a checkpoint or run directory of this suite, or a pre-trained model: smollm2, a folder with
config.json and safetensors files (Llama, GPT-2), or a GGUF file. Several prompts are continued at once, each
independently of the others: a prompt and a seed determine a text. For line ends in a prompt or stop string,
write $'\n\n' in the shell.
"""

import argparse
import dataclasses
import typing
from collections.abc import Sequence

from experiments import cli
from experiments.config import schema
from experiments.config.sources import read_mapping
from experiments.errors import UserError
from experiments.language_models.loaded_model import PRECISIONS
from lit_modules.configs.generation import SamplingConfig


def read_options(arguments: Sequence[str]) -> tuple[argparse.Namespace, SamplingConfig]:
    """Parse and check a command line.

    Raises:
        UserError: A value is out of range, or options contradict each other.
    """
    options = build_parser().parse_intermixed_args(arguments)
    if options.prompt and options.chat:
        raise UserError("--prompt continues a text and --chat answers a message: give one of them")
    if options.samples < 1:
        raise UserError(f"--samples {options.samples}: allowed are integers ≥ 1")
    settings = _sampling_settings(options)
    if options.steer is None and options.alpha is not None:
        raise UserError("--alpha is the factor of steering vectors: name the steering network with --steer")
    if options.steer is not None and (options.samples != 1 or options.stop or options.no_cache):
        raise UserError("--steer shows one answer per method: leave out --samples, --stop and --no-cache")
    if options.steer is not None and options.precision == "int8":
        raise UserError("--steer changes hidden states: --precision can be fp32 or bf16")
    return options, settings


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command. The options of sampling come from the schema `SamplingConfig`."""
    parser = cli.parser("sample", __doc__)
    add = parser.add_argument
    add(
        "model",
        type=cli.file_or_name,
        metavar="MODEL",
        help="a checkpoint, a run directory, or a pre-trained model",
    )
    add("--prompt", action="append", metavar="TEXT", help="text to continue; may be repeated")
    add("--chat", action="append", metavar="TEXT", help="message for a chat model; may be repeated")
    add(
        "--samples", type=int, default=1, metavar="N", help="texts per prompt, with seeds --seed, --seed+1, …"
    )
    add(
        "--stop", action="append", default=[], metavar="TEXT", help="string that ends a text; may be repeated"
    )
    hints = typing.get_type_hints(SamplingConfig)
    for field in dataclasses.fields(SamplingConfig):
        if field.name != "stop_ids":
            kind = int if hints[field.name] in (int, int | None) else float
            default = "all tokens" if field.default is None else field.default
            with_chat = ", or 0 with --chat" if field.name == "temperature" else ""
            text = f"{field.metadata['help']} Default: {default}{with_chat}."
            add(f"--{field.name.replace('_', '-')}", type=kind, metavar=kind.__name__.upper(), help=text)
    text = "compute all tokens again for each new token: slower, and the same text except for rounding"
    add("--no-cache", action="store_true", help=text)
    text = "number format of the weights; default: fp32, or with --steer the format of its training data"
    add("--precision", choices=PRECISIONS, help=text)
    text = "steering network: answer without steering, with the mean vector, and with this network"
    add("--steer", type=cli.file_or_name, metavar="CHECKPOINT", help=text)
    add("--alpha", type=float, metavar="FLOAT", help="factor of the steering vectors; default: 1")
    add("--json", action="store_true", help="print one JSON object per text when all texts are done")
    return parser


def _sampling_settings(options: argparse.Namespace) -> SamplingConfig:
    given = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(SamplingConfig)
        if getattr(options, field.name, None) is not None
    }
    if options.chat and "temperature" not in given:
        given["temperature"] = 0.0
    return schema.build(SamplingConfig, given, "", read_mapping(given, "the command line"))

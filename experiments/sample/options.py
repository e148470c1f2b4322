r"""Continue texts with a language model, and show each text while it grows.

The model is a checkpoint or run directory of this suite, or a pre-trained model: smollm2, a folder with
config.json and safetensors files (Llama, Mistral, Qwen2, Qwen3, SmolLM3, GPT-2), or a GGUF file. Several
prompts are continued at once, each independently of the others: a prompt and a seed determine a text. For
line ends in a prompt or stop string, write $'\n\n' in the shell.

--chat without a text is a dialogue. The model answers each line of standard input and remembers the
conversation. /reset forgets it, and /exit or Ctrl-D ends it. Ctrl-C stops an answer.

--steer takes vectors from experiments.steering or a steering network. Give --steer and --alpha once for all
prompts, or once for each prompt.
"""

import argparse
import dataclasses
import math
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
    options.dialogue = options.chat == [None]
    if options.prompt and options.chat:
        raise UserError("--prompt continues a text and --chat answers a message: give one of them")
    if options.chat and None in options.chat and not options.dialogue:
        raise UserError("--chat without a text is a dialogue: leave out the other --chat")
    if options.system is not None and not options.chat:
        raise UserError("--system is for a chat model: give --chat too")
    if options.samples < 1:
        raise UserError(f"--samples {options.samples}: allowed are integers ≥ 1")
    if options.samples != 1 and options.dialogue:
        raise UserError("a dialogue has one answer for each message: leave out --samples")
    settings = _sampling_settings(options)
    _check_steering(options)
    return options, settings


def _check_steering(options: argparse.Namespace) -> None:
    if not options.steer:
        if options.alpha:
            raise UserError("--alpha is the factor of a steering vector: name the vector with --steer")
        return
    if options.precision == "int8":
        raise UserError("--steer changes hidden states: --precision can be fp32 or bf16")
    if not options.dialogue and (options.samples != 1 or options.stop or options.no_cache):
        raise UserError("--steer shows one answer of each kind: leave out --samples, --stop and --no-cache")
    count = 1 if options.dialogue else max(1, len(options.chat or options.prompt or ()))
    for name, values in (("steer", options.steer), ("alpha", options.alpha)):
        if len(values) not in (0, 1, count):
            raise UserError(
                f"--{name} is given {len(values)} times for {count} prompt(s): give it once, or once for each"
            )
    wrong = [alpha for alpha in options.alpha if not math.isfinite(alpha)]
    if wrong:
        raise UserError(f"--alpha {wrong[0]}: allowed are finite numbers")


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
    text = "message for a chat model; may be repeated. Without TEXT: a dialogue"
    add("--chat", action="append", nargs="?", metavar="TEXT", help=text)
    add("--system", metavar="TEXT", help="system message of a chat; default: that of the model")
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
    text = "number format of the weights; auto: what is fast here. Default: fp32; auto in a dialogue; with "
    text += "--steer the format that the vector was made in"
    add("--precision", choices=PRECISIONS, help=text)
    text = "steering vector (.safetensors): answer without and with it. Or a steering network: answer also "
    text += "with the mean vector. May be repeated"
    add("--steer", action="append", default=[], type=cli.file_or_name, metavar="FILE", help=text)
    text = "factor of the steering vector; default: 1. May be repeated"
    add("--alpha", action="append", default=[], type=float, metavar="FLOAT", help=text)
    text = "print one JSON object per text, when all texts are done; in a dialogue, when each answer is done"
    add("--json", action="store_true", help=text)
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

"""Reads a prompt set with a frozen language model and keeps the hidden states for a steering network.

Of each prompt: h, the hidden state of its last token, and z, by how much the wanted answers' hidden states
differ from the unwanted ones' (prompt-to-steer), at the chosen layers. A file that was made before is used
again if it was made of the same model, prompts, layers and template, and refused otherwise.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experiments import cli
from experiments.errors import UserError
from experiments.language_models.opening import LoadedModel, open_language_model
from experiments.steering.states_manifest import (
    Manifest,
    check_manifest,
    check_split,
    examples_sha256,
    in_words,
    save_with_manifest,
    weights_sha256,
)

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.prompts.prompt_sets import Prompt, PromptSet
    from lit_modules.generation.hidden_states import ForcedAnswers

Template = Literal["chat", "plain"]
PRECISIONS = ("fp32", "bf16")
PARTS = {"train": 0, "validation": 1, "test": 2}
"""Numbers of the splits in a file."""


def extract(
    model: LoadedModel,
    prompts: "PromptSet",
    path: Path,
    *,
    layers: Sequence[int],
    template: Template | None = None,
    position: Literal["last", "mean"] = "last",
    answers: int = 0,
    batch_size: int = 32,
    show: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Make a file of hidden states, or find that it is there.

    The file is safetensors: `h` and `z`, (N, L, W) float32 for the N prompts of the set in order and L
    layers; `split`, (N,): 0 training, 1 validation, 2 test; `seen`, (N,): whether training has the
    prompt's template. Its metadata holds the manifest, in JSON.

    Args:
        model: Whose network is a `TransformerLM`, in evaluation mode.
        prompts: What to read.
        path: The file; written under another name and renamed.
        layers: Of the model.
        template: `chat`: the model's own format; `plain`: the prompt and a line end. By default the
            model's own if it has one.
        position: See `read_pairs`.
        answers: How many of each side's answers to take the mean over, a rotating choice; 0: all.
        batch_size: Prompts read together.
        show: Called with the number of prompts read and of all.

    Raises:
        UserError: The model lacks such a layer or template or knows not all characters, a prompt is too long
            for it, or the file is there and was made of something else.
    """
    from lit_modules.generation.steered import check_layer

    template = template or ("plain" if model.chat is None else "chat")
    try:
        for layer in layers:
            check_layer(model.network, layer)
        examples = all_examples(model, prompts, template, answers=answers)
    except ValueError as error:
        raise UserError(f"{model.name}: {error}") from error
    manifest = Manifest(
        model=model.name,
        model_sha256=weights_sha256(model.network),
        prompts=prompts.name,
        prompts_sha256=examples_sha256(examples),
        template=template,
        layers=tuple(layers),
        position=position,
    )
    split = [PARTS[p.split] for p in prompts.prompts]
    if path.exists():
        check_manifest(path, manifest)
        check_split(path, split)
        return manifest

    import torch

    states = read_all(model, examples, layers=layers, position=position, batch_size=batch_size, show=show)
    tensors = {
        "h": states[0],
        "z": states[1],
        "split": torch.tensor(split, dtype=torch.uint8),
        "seen": torch.tensor([p.seen for p in prompts.prompts], dtype=torch.uint8),
    }
    save_with_manifest(path, tensors, manifest)
    return manifest


def all_examples(
    model: LoadedModel, prompts: "PromptSet", template: Template, *, answers: int = 0
) -> list["ForcedAnswers"]:
    """Every prompt of a set in order, with its answers; see `forced_answers`."""
    return [
        forced_answers(model, prompts, prompt, template, answers=answers, turn=turn)
        for turn, prompt in enumerate(prompts.prompts)
    ]


def forced_answers(
    model: LoadedModel,
    prompts: "PromptSet",
    prompt: "Prompt",
    template: Template,
    *,
    answers: int = 0,
    turn: int = 0,
) -> "ForcedAnswers":
    """A prompt and the answers that make its vector, as token ids.

    Args:
        model: Knows the tokens and the chat format.
        prompts: The set that the prompt is of.
        prompt: Is neutral if its instantiation is: it then has no answers.
        template: See `extract`.
        answers: How many of each side; 0: all.
        turn: Which of them come first, so that prompts take turns.

    Raises:
        ValueError: The model has no chat format, or doesn't know a character.
    """
    from lit_modules.generation.hidden_states import ForcedAnswers

    def chosen(side: Literal["wanted", "unwanted"]) -> list[list[int]]:
        texts = prompts.completions(prompt.instantiation, side, "fit")
        count = min(answers or len(texts), len(texts))
        return [model.tokenizer.encode(texts[(turn + k) % len(texts)]) for k in range(count)]

    return ForcedAnswers(
        prompt=encode_prompt(model, prompt.text, template),
        wanted=chosen("wanted"),
        unwanted=chosen("unwanted"),
    )


def encode_prompt(model: LoadedModel, text: str, template: Template) -> list[int]:
    """A prompt as the model is to read it.

    Raises:
        ValueError: The model has no chat format, or doesn't know a character.
    """
    if template == "plain":
        return model.tokenizer.encode(f"{text}\n")
    if model.chat is None:
        raise ValueError("it has no chat format; use the template plain")
    return model.chat(text)


def read_all(
    model: LoadedModel,
    examples: Sequence["ForcedAnswers"],
    *,
    layers: Sequence[int],
    position: Literal["last", "mean"] = "last",
    batch_size: int = 32,
    show: Callable[[int, int], None] | None = None,
) -> tuple["Tensor", "Tensor"]:
    """h and z of all examples, float32 (N, L, W) each; prompts of like length are read together.

    Raises:
        UserError: A text is too long for the model.
    """
    import torch

    from lit_modules.generation.hidden_states import read_pairs

    order = sorted(range(len(examples)), key=lambda number: len(examples[number].prompt))
    h = z = torch.empty(0)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        try:
            some_h, some_z = read_pairs(
                model.network, [examples[row] for row in rows], layers=layers, position=position
            )
        except ValueError as error:
            raise UserError(f"{model.name}: {error}") from error
        if not start:
            h, z = (torch.empty(len(order), *some_h.shape[1:]) for _ in range(2))
        h[rows], z[rows] = some_h.float().cpu(), some_z.float().cpu()
        if show is not None:
            show(start + len(rows), len(order))
    return h, z


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.extract",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a checkpoint, a run directory, or a pre-trained model")
    add("prompts", metavar="PROMPTS", help="a prompt set: its folder, or the name of one of the suite's")
    add("--layers", required=True, metavar="I,J,…", help="layers, the first being 0")
    add("--output", type=Path, required=True, metavar="FILE", help="a safetensors file")
    add("--template", choices=("chat", "plain"), help="default: the model's chat format if it has one")
    add(
        "--position",
        choices=("last", "mean"),
        default="last",
        help="an answer's last token, or the mean over its tokens; default: last",
    )
    add(
        "--answers",
        type=int,
        default=0,
        metavar="K",
        help="how many of each side's answers to take the mean over, in turns; default: 0, all",
    )
    add("--batch-size", type=int, default=32, metavar="B", help="prompts read together; default: 32")
    add("--precision", choices=PRECISIONS, default="fp32", help="number format of the weights; default: fp32")
    return parser


def read_layers(text: str) -> list[int]:
    """The layers that a command line names.

    Raises:
        UserError: They are no list of different whole numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"--layers {text!r}: give different layers with commas between, such as 12,18")
    return [int(part) for part in parts]


def open_prompt_set(name: str | Path) -> "PromptSet":
    """A prompt set by name or folder.

    Raises:
        UserError: There is none, or a line of it is wrong.
    """
    from datamodules.prompts.prompt_sets import read_prompt_set

    try:
        return read_prompt_set(name)
    except ValueError as error:
        raise UserError(str(error)) from error


@cli.command
def main(arguments: list[str]) -> None:
    """Read what the command line names; see `--help`."""
    options = build_parser().parse_args(arguments)
    if options.batch_size < 1 or options.answers < 0:
        raise UserError(
            f"--batch-size {options.batch_size} must be at least 1 and --answers {options.answers} at least 0"
        )
    layers, prompts = read_layers(options.layers), open_prompt_set(options.prompts)
    model = open_language_model(options.model, options.precision, laid_out=False)
    had, start = options.output.exists(), time.perf_counter()

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
    print(f"{options.output} {'is there already' if had else 'written'}")
    for name, value in dataclasses.asdict(manifest).items():
        print(f"  {name}: {in_words(value)}")


if __name__ == "__main__":
    sys.exit(main(None))

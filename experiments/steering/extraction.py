"""Extract hidden states and steering vectors of a prompt set from a frozen language model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from datamodules.prompts.prompt_sets import Prompt, PromptSet, Side, read_prompt_set
from experiments.errors import UserError
from experiments.language_models.loaded_model import LoadedModel
from experiments.steering.states_manifest import (
    Manifest,
    Template,
    check_manifest,
    check_split,
    examples_sha256,
    save_with_manifest,
    weights_sha256,
)
from lit_modules.generation.hidden_states import AnswerPosition, ForcedAnswers, read_pairs
from lit_modules.generation.steered import check_layer

SPLIT_CODES = {"train": 0, "validation": 1, "test": 2}
"""Code of each split in the file."""


def extract(
    model: LoadedModel,
    prompts: PromptSet,
    path: Path,
    *,
    layers: Sequence[int],
    template: Template | None = None,
    position: AnswerPosition = "last",
    answers: int = 0,
    batch_size: int = 32,
    show: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Write a file of hidden states, or verify an existing file; return its manifest.

    The safetensors file holds `h` and `z`, (N, L, W) float32 for the N prompts of the set in order and L
    layers; `split`, (N,): 0 training, 1 validation, 2 test; `seen`, (N,): 1 if training uses the template
    of the prompt. The metadata holds the manifest as JSON.

    Args:
        model: The model; its network is a `TransformerLM` in evaluation mode.
        prompts: The prompt set.
        path: The file. It is written under a temporary name and renamed.
        layers: Indices of the layers to save.
        template: `chat`: the chat format of the model. `plain`: the prompt and a newline. By default `chat`
            if the model has a chat format.
        position: See `read_pairs`.
        answers: Number of wanted and of unwanted answers for each prompt, taken in turn; 0 means all.
        batch_size: Number of prompts in a batch.
        show: Called with the number of finished prompts and the total.

    Raises:
        UserError: The model lacks the layer, the template or a character, a prompt is too long, or the
            existing file has another manifest.
    """
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
    split = split_codes(prompts)
    if path.exists():
        check_manifest(path, manifest)
        check_split(path, split)
        return manifest
    h, z = read_all(model, examples, layers=layers, position=position, batch_size=batch_size, show=show)
    tensors = {
        "h": h,
        "z": z,
        "split": torch.tensor(split, dtype=torch.uint8),
        "seen": torch.tensor([p.seen for p in prompts.prompts], dtype=torch.uint8),
    }
    save_with_manifest(path, tensors, manifest)
    return manifest


def split_codes(prompts: PromptSet) -> list[int]:
    """Return the split code of each prompt, in order."""
    return [SPLIT_CODES[prompt.split] for prompt in prompts.prompts]


def all_examples(
    model: LoadedModel, prompts: PromptSet, template: Template, *, answers: int = 0
) -> list[ForcedAnswers]:
    """Encode every prompt of a set with its answers, in order; see `forced_answers`."""
    return [
        forced_answers(model, prompts, prompt, template, answers=answers, turn=turn)
        for turn, prompt in enumerate(prompts.prompts)
    ]


def forced_answers(
    model: LoadedModel,
    prompts: PromptSet,
    prompt: Prompt,
    template: Template,
    *,
    answers: int = 0,
    turn: int = 0,
) -> ForcedAnswers:
    """Encode a prompt and the answers that define its steering vector.

    A prompt of a neutral instantiation gets no answers. `turn` is the index of the first answer, modulo their
    number, so that different prompts use different answers.

    Raises:
        ValueError: The model has no chat format, or its tokenizer lacks a character.
    """
    start = encode_prompt(model, prompt.text, template)
    wanted, unwanted = (
        [
            model.tokenizer.encode_after(start, text)
            for text in fit_answers(prompts, prompt, side, answers, turn)
        ]
        for side in get_args(Side)
    )
    return ForcedAnswers(prompt=start, wanted=wanted, unwanted=unwanted)


def fit_answers(prompts: PromptSet, prompt: Prompt, side: Side, answers: int, turn: int) -> list[str]:
    """Return the texts of one side that a prompt learns from; see `forced_answers`."""
    texts = prompts.completions(prompt.instantiation, side, "fit")
    count = min(answers or len(texts), len(texts))
    return [texts[(turn + k) % len(texts)] for k in range(count)]


def encode_prompt(model: LoadedModel, text: str, template: Template) -> list[int]:
    """Encode a prompt in a template.

    Raises:
        ValueError: The model has no chat format, or its tokenizer lacks a character.
    """
    if template == "plain":
        return model.tokenizer.encode(f"{text}\n")
    if model.chat is None:
        raise ValueError("the model has no chat format; use the template plain")
    return model.chat(text)


def read_all(
    model: LoadedModel,
    examples: Sequence[ForcedAnswers],
    *,
    layers: Sequence[int],
    position: AnswerPosition = "last",
    batch_size: int = 32,
    show: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute h and z of all examples, float32 (N, L, W) each; a batch holds prompts of similar length.

    Raises:
        UserError: A text is too long for the model.
    """
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


def open_prompt_set(name: str | Path) -> PromptSet:
    """Read a prompt set by name or folder.

    Raises:
        UserError: The set does not exist, or a line of it is wrong.
    """
    try:
        return read_prompt_set(name)
    except ValueError as error:
        raise UserError(str(error)) from error

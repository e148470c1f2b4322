"""Encode the prompts and messages of the command line, and warn of texts longer than the context."""

from collections.abc import Sequence

from experiments.errors import UserError
from experiments.language_models.chat import Chat
from experiments.language_models.loaded_model import LoadedModel

START = "\n"
"""Used if no prompt is given: a text begins after a line end."""


def encode_prompt(model: LoadedModel, text: str) -> list[int]:
    """Encode a prompt.

    Raises:
        UserError: The prompt is empty, or has characters that the vocabulary lacks.
    """
    if not text:
        raise UserError("--prompt is empty: give a text to continue")
    try:
        return [*model.tokenizer.start_ids, *model.tokenizer.encode(text)]
    except ValueError as error:
        raise UserError(f"--prompt {shorten(text)!r}: {error}") from error


def encode_start(model: LoadedModel) -> list[int]:
    """Encode what precedes a text without a prompt: the vocabulary's start of a text, or a line end.

    Raises:
        UserError: The vocabulary has no line end.
    """
    if model.tokenizer.start_ids:
        return list(model.tokenizer.start_ids)
    try:
        return model.tokenizer.encode(START)
    except ValueError as error:
        raise UserError(
            f"the vocabulary of {model.name} has no line end to start from: give a --prompt"
        ) from error


def encode_message(model: LoadedModel, message: str) -> list[int]:
    """Encode a conversation in which the model answers a message.

    Raises:
        UserError: The model has no chat format, or the message has characters that the vocabulary lacks.
    """
    chat = require_chat(model)
    try:
        return chat(message)
    except ValueError as error:
        raise UserError(f"--chat {shorten(message)!r}: {error}") from error


def require_chat(model: LoadedModel) -> Chat:
    """Return the chat format of a model.

    Raises:
        UserError: The model has none.
    """
    if model.chat is None:
        raise UserError(
            f"{model.name} has no chat template that the suite knows; continue a text with --prompt"
        )
    return model.chat


def shorten(text: str, limit: int = 60) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def context_notes(model: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """Return one note for each prompt longer than the context, and one if a text outgrows the context."""
    context = model.context_length
    if context is None:
        return []
    notes = [
        f"prompt {number} has {len(prompt)} tokens, but {model.name} has context length {context}: "
        f"it reads the last {context}"
        for number, prompt in enumerate(prompts, start=1)
        if len(prompt) > context
    ]
    if max(len(prompt) for prompt in prompts) + max_new_tokens > context:
        notes.append(
            f"{model.name} has context length {context}: when a text is longer, its older half is forgotten"
        )
    return notes

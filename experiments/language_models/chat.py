"""Conversations as a chat model was trained to read them, put together by our own code.

A model's file says what its conversations look like in a template, which is a program. It is never run: one
that is known, letter by letter, stands for a format that is written here.
"""

from collections.abc import Callable
from typing import Any

_SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
_SMOLLM2_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n" + _SMOLLM2_SYSTEM + "<|im_end|>\n' }}"
    "{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chat_format(template: object, tokenizer: Any) -> Callable[[str], list[int]] | None:
    """What puts a user's message into a conversation.

    Args:
        template: What the model's file has as its chat template.
        tokenizer: The model's.

    Returns:
        From a message to the ids of a conversation that the model has to go on with; None for a template
        that isn't known, or a vocabulary that lacks its special tokens.
    """
    if not isinstance(template, str) or _with_line_ends(template) != _with_line_ends(_SMOLLM2_TEMPLATE):
        return None
    if not {"<|im_start|>", "<|im_end|>"} <= tokenizer.special_tokens.keys():
        return None
    return lambda message: chat_ml(tokenizer, message, system=_SMOLLM2_SYSTEM)


def chat_ml(tokenizer: Any, message: str, *, system: str) -> list[int]:
    """The ids of a conversation in ChatML in which the assistant is next.

        <|im_start|>system⏎ …<|im_end|>⏎<|im_start|>user⏎ …<|im_end|>⏎<|im_start|>assistant⏎

    What a message says stays text: the name of a special token in it doesn't become that token.

    Raises:
        ValueError: The message has characters that the vocabulary lacks.
    """
    start, end = tokenizer.special_tokens["<|im_start|>"], tokenizer.special_tokens["<|im_end|>"]
    ids: list[int] = []
    for role, text in (("system", system), ("user", message)):
        ids += [start, *tokenizer.encode(f"{role}\n{text}"), end, *tokenizer.encode("\n")]
    return [*ids, start, *tokenizer.encode("assistant\n")]


def _with_line_ends(template: str) -> str:
    """A template whose line ends, which may be written as backslash and n, are all themselves."""
    return template.replace("\\n", "\n")

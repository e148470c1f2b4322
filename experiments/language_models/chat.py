"""Encode conversations in the format that a chat model was trained on.

The file of a chat model describes the format by a template, which is a program. The suite never runs it.
Instead, it compares the template with those it knows and uses its own code for the format.
"""

from collections.abc import Callable
from typing import Any

from datamodules.configs.chat_corpus import CHAT_TOKENS
from datamodules.text.conversations import SYSTEM_MESSAGES, Message, encode_conversation

_SMOLLM2_SYSTEM = SYSTEM_MESSAGES["smollm2"] or ""
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
    """Return the function that encodes a user's message as a conversation.

    Returns:
        A function from a message to the ids of a conversation in which the model answers next. None if the
        template is unknown or the vocabulary lacks its special tokens.
    """
    if not isinstance(template, str) or _with_line_ends(template) != _with_line_ends(_SMOLLM2_TEMPLATE):
        return None
    return chat_of("smollm2", tokenizer)


def chat_of(template: str, tokenizer: Any) -> Callable[[str], list[int]] | None:
    """Return the function that encodes a message with this `data.template`; None if it is not possible."""
    if template not in SYSTEM_MESSAGES or not set(CHAT_TOKENS) <= tokenizer.special_tokens.keys():
        return None
    return lambda message: chat_ml(tokenizer, message, system=SYSTEM_MESSAGES[template])


def chat_ml(tokenizer: Any, message: str, *, system: str | None) -> list[int]:
    """Encode a conversation in ChatML in which the assistant answers next.

        <|im_start|>system⏎ …<|im_end|>⏎<|im_start|>user⏎ …<|im_end|>⏎<|im_start|>assistant⏎

    The name of a special token inside a message stays text; it does not become that token.

    Raises:
        ValueError: The message has characters that the vocabulary lacks.
    """
    ids = encode_conversation(tokenizer, [Message("user", message)], system=system).ids
    return [*ids, tokenizer.special_tokens["<|im_start|>"], *tokenizer.encode("assistant\n")]


def _with_line_ends(template: str) -> str:
    """Replace each backslash followed by n by a line end."""
    return template.replace("\\n", "\n")

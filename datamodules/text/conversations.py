"""Read conversations from JSONL, encode them in ChatML, and arrange them in rows.

    <|im_start|>system⏎…<|im_end|>⏎<|im_start|>user⏎…<|im_end|>⏎<|im_start|>assistant⏎…<|im_end|>⏎

The assistant's tokens are those that a chat model generates: its answer and the <|im_end|> after it.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.configs.chat_corpus import CHAT_TOKENS
from datamodules.text.text_source import TextFiles
from datamodules.tokenizers.tokenizer import Tokenizer

SYSTEM_MESSAGES = {
    "smollm2": "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    "chatml": None,
}
"""For each template, the system message of a conversation that has none."""
SPLITS = ("train", "validation", "test")
"""Splits that the lines of a file may name."""
_ROLES = ("system", "user", "assistant")


class Message(NamedTuple):
    """A message of a conversation."""

    role: str
    content: str


class Encoded(NamedTuple):
    """A conversation as tokens."""

    ids: list[int]
    is_answer: list[bool]  # whether each token is the assistant's


class Conversation(NamedTuple):
    """A conversation of a file, and its split: train, validation or test; None if the file has no splits."""

    messages: list[Message]
    split: str | None = None


def read_conversations(path: Path) -> list[Conversation]:
    """Read a JSONL file; empty lines are skipped.

    Raises:
        ValueError: The file can't be read, a line isn't a conversation with an answer, or some lines name a
            split and some don't. The message names the line.
    """
    found = []
    for number, line in enumerate("".join(TextFiles((path,)).chunks()).split("\n"), start=1):
        if line.strip():
            try:
                found.append(_conversation(json.loads(line)))
                if (found[-1].split is None) != (found[0].split is None):
                    raise ValueError('all lines need a "split", or none')
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    return found


def _conversation(values: object) -> Conversation:
    messages, split = (values.get(k) if isinstance(values, dict) else None for k in ("messages", "split"))
    if not isinstance(messages, list) or not messages:
        raise ValueError('expected an object with a list of "messages"')
    conversation = []
    for message in messages:
        role, content = (message.get(k) if isinstance(message, dict) else None for k in ("role", "content"))
        if role not in _ROLES or not isinstance(content, str):
            raise ValueError(f"a message needs a role, one of {', '.join(_ROLES)}, and a content, a string")
        conversation.append(Message(role, content))
    if "assistant" not in [message.role for message in conversation]:
        raise ValueError("the assistant has no message, so there is nothing to learn")
    if split is not None and split not in SPLITS:
        raise ValueError(f'the "split" is {split!r}, expected one of {", ".join(SPLITS)}')
    return Conversation(conversation, split)


def encode_conversation(tokenizer: Tokenizer, messages: Sequence[Message], *, system: str | None) -> Encoded:
    """Encode a conversation in ChatML. The name of a special token in a message is encoded as plain text.

    Args:
        tokenizer: A tokenizer with the special tokens of ChatML.
        messages: The messages, in order.
        system: System message to add if `messages` doesn't begin with one; None adds none.

    Raises:
        ValueError: The vocabulary lacks a special token, or characters of a message.
    """
    if missing := [name for name in CHAT_TOKENS if name not in tokenizer.special_tokens]:
        raise ValueError(f"the vocabulary lacks the special token {missing[0]}, so it can't encode a chat")
    start, end = (tokenizer.special_tokens[name] for name in CHAT_TOKENS)
    line_end = tokenizer.encode("\n")
    encoded = Encoded([], [])
    if system is not None and (not messages or messages[0].role != "system"):
        messages = [Message("system", system), *messages]
    for role, content in messages:
        if role == "assistant":  # two texts, because a model generates after `assistant⏎`
            head, body = [start, *tokenizer.encode("assistant\n")], [*tokenizer.encode(content), end]
        else:
            head, body = [start, *tokenizer.encode(f"{role}\n{content}"), end], []
        encoded.ids.extend((*head, *body, *line_end))
        encoded.is_answer.extend([*[False] * len(head), *[True] * len(body), *[False] * len(line_end)])
    return encoded


def packed_rows(lengths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Yield the indices of the sequences in each row, in order; a row ends when the next doesn't fit."""
    row: list[int] = []
    used = 0
    for index, length in enumerate(lengths):
        if row and used + length > width:
            yield row
            row, used = [], 0
        row.append(index)
        used += length
    if row:
        yield row

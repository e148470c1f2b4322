"""Read conversations from JSONL, and arrange them in rows."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.text.chat_formats import ROLES, Message
from datamodules.text.text_source import TextFiles

SPLITS = ("train", "validation", "test")
"""Splits that the lines of a file may name."""


class Conversation(NamedTuple):
    """A conversation of a file."""

    messages: list[Message]
    split: str | None  # train, validation or test; None if the file has no splits
    line: int  # its line in the file, from 1


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
                found.append(_conversation(json.loads(line), number))
                if (found[-1].split is None) != (found[0].split is None):
                    raise ValueError('all lines need a "split", or none')
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    return found


def _conversation(values: object, line: int) -> Conversation:
    messages, split = (values.get(k) if isinstance(values, dict) else None for k in ("messages", "split"))
    if not isinstance(messages, list) or not messages:
        raise ValueError('expected an object with a list of "messages"')
    conversation = []
    for message in messages:
        role, content = (message.get(k) if isinstance(message, dict) else None for k in ("role", "content"))
        if role not in ROLES or not isinstance(content, str):
            raise ValueError(f"a message needs a role, one of {', '.join(ROLES)}, and a content, a string")
        conversation.append(Message(role, content))
    if "assistant" not in [message.role for message in conversation]:
        raise ValueError("the assistant has no message, so there is nothing to learn")
    if split is not None and split not in SPLITS:
        raise ValueError(f'the "split" is {split!r}, expected one of {", ".join(SPLITS)}')
    return Conversation(conversation, split, line)


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

"""The formats of conversations: the one table for training and for dialogues.

A conversation is a text. `<|…|>` is a special token, and ⏎ is a line end. ChatML, for example:

    <|im_start|>system⏎…<|im_end|>⏎<|im_start|>user⏎…<|im_end|>⏎<|im_start|>assistant⏎…<|im_end|>⏎
    ╰────── head ─────╯ ╰─ end ─╯gap

The assistant's tokens are those that a chat model generates: its answer and the end after it.

The files of a chat model describe its format by a template, which is a program. The suite never runs it. It
looks for telling pieces in the template's text, and writes the format with its own code.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

from datamodules.tokenizers.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")


class Message(NamedTuple):
    """A message of a conversation."""

    role: str
    content: str


class Encoded(NamedTuple):
    """A conversation as tokens."""

    ids: list[int]
    is_answer: list[bool]  # whether each token is the assistant's


class Part(NamedTuple):
    """A part of a conversation's text."""

    text: str
    is_special: bool  # whether the text is the name of a special token
    is_answer: bool  # whether it is the assistant's


@dataclass(frozen=True, kw_only=True)
class ChatFormat:
    """A format of conversations; the default is ChatML.

    Attributes:
        system: The system message of a conversation without one; None: it has none.
        heads: The text before a message, by role.
        end: The text after a message. After an answer, it is the assistant's.
        gap: The text after the end.
        marks: Pieces of a template's text that tell the format, as `_normal` writes them.
        lacks: Pieces that a template of the format does not have.
    """

    system: str | None = None
    heads: Mapping[str, str] = field(
        default_factory=lambda: {role: f"<|im_start|>{role}\n" for role in ROLES}
    )
    end: str = "<|im_end|>"
    gap: str = "\n"
    marks: tuple[str, ...] = ("'<|im_start|>'+message.role+'\n'+message.content+'<|im_end|>\n'",)
    lacks: tuple[str, ...] = ("think", "bos_token")

    @property
    def special_names(self) -> list[str]:
        """Names of the special tokens that the vocabulary needs."""
        return _SPECIAL.findall("".join([*self.heads.values(), self.end]))

    def parts(self, messages: Sequence[Message]) -> Iterator[Part]:
        """Yield the text of some messages."""
        for role, content in messages:
            is_answer = role == "assistant"
            yield from _format_parts(self.heads[role])
            yield Part(content, False, is_answer)
            yield from _format_parts(self.end, is_answer=is_answer)
            yield from _format_parts(self.gap)


_CHATML = ChatFormat()
FORMATS = {
    "smollm2": replace(
        _CHATML, system="You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    ),
    "chatml": _CHATML,
}
"""The formats that `data.template` names."""
_SPECIAL = re.compile(r"<\|\w+\|>")
_TAG = re.compile(r"""\{#.*?#\}|\{[{%](?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^'"])*?[%}]\}""", re.DOTALL)
_DEFAULT_SYSTEM = re.compile(r"<\|im_start\|>system\n([^']+)<\|im_end\|>")
_LONGEST_TEMPLATE = 20_000  # characters; the longest published ones have a quarter of this


def recognise(template: object) -> str | None:
    """Return the name of the format that a template of a model's files describes; None if it is not known.

    Nothing of the template is run.
    """
    if not isinstance(template, str) or len(template) > _LONGEST_TEMPLATE:
        return None
    outside = _TAG.split(template)
    if any(text.strip() or (text and not text.startswith("\n")) for text in outside):
        return None  # text that the template writes as it stands
    text = _normal(template)
    systems = set(_DEFAULT_SYSTEM.findall(text))
    for name, known in FORMATS.items():
        if (
            all(mark in text for mark in known.marks)
            and not any(piece in text for piece in known.lacks)
            and systems == ({known.system} if known.system else set())
        ):
            return name
    return None


def _normal(template: str) -> str:
    """Write the same expressions of templates in the same way."""
    text = template.replace("\\n", "\n").replace('"', "'")
    text = re.sub(r"\['(\w+)'\]", r".\1", text)  # message['role'] is message.role
    text = re.sub(r"(?<=[\w'])[ ]*([+|])[ ]*(?=[\w'])", r"\1", text)
    return text.replace("'+'", "")


def missing_special(tokenizer: Tokenizer, chat_format: ChatFormat) -> str | None:
    """Return the first special token of a format that a vocabulary lacks; None if it has all."""
    return next((name for name in chat_format.special_names if name not in tokenizer.special_tokens), None)


def encode_conversation(
    tokenizer: Tokenizer, messages: Sequence[Message], chat_format: ChatFormat, *, system: str | None
) -> Encoded:
    """Encode a conversation. The name of a special token in a message is encoded as plain text.

    Args:
        tokenizer: A tokenizer with the special tokens of the format.
        messages: The messages, in order.
        chat_format: The format.
        system: System message to add if `messages` doesn't begin with one; None adds none.

    Raises:
        ValueError: The vocabulary lacks a special token, or characters of a message.
    """
    if missing := missing_special(tokenizer, chat_format):
        raise ValueError(f"the vocabulary lacks the special token {missing}, so it can't encode a chat")
    if system is not None and (not messages or messages[0].role != "system"):
        messages = [Message("system", system), *messages]
    return encode_parts(tokenizer, chat_format.parts(messages))


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encode a text of a format, with its special tokens."""
    return encode_parts(tokenizer, _format_parts(text)).ids


def encode_parts(tokenizer: Tokenizer, parts: Iterator[Part]) -> Encoded:
    """Encode the parts of a conversation; an answer begins with a token of its own."""
    encoded = Encoded([], [])
    for (is_special, is_answer), group in groupby(parts, key=lambda part: part[1:]):
        texts = [part.text for part in group]
        if is_special:
            ids = [tokenizer.special_tokens[name] for name in texts]
        else:
            ids = tokenizer.encode("".join(texts))
        encoded.ids.extend(ids)
        encoded.is_answer.extend([is_answer] * len(ids))
    return encoded


def _format_parts(text: str, *, is_answer: bool = False) -> Iterator[Part]:
    """Split a text of a format at its special tokens."""
    for number, piece in enumerate(re.split(f"({_SPECIAL.pattern})", text)):
        if piece:
            yield Part(piece, number % 2 == 1, is_answer)

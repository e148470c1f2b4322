"""The formats of conversations: the one table for training and for dialogues.

A conversation is a text. `<|…|>` is a special token, and ⏎ is a line end. ChatML, for example:

    <|im_start|>system⏎…<|im_end|>⏎<|im_start|>user⏎…<|im_end|>⏎<|im_start|>assistant⏎…<|im_end|>⏎
    ╰────── head ─────╯ ╰─ end ─╯gap

The assistant's tokens are those that a chat model generates: its answer and the end after it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        start: The text before the first message.
        heads: The text before a message, by role.
        last_head: The text before an answer that ends the conversation, if it is another one.
        ends: The text after a message, by role. After an answer, it is the assistant's.
        gap: The text after the end.
        arrange: Changes the messages before they are written.
    """

    system: str | None = None
    start: str = ""
    heads: Mapping[str, str] = field(
        default_factory=lambda: {role: f"<|im_start|>{role}\n" for role in ROLES}
    )
    last_head: str | None = None
    ends: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(ROLES, "<|im_end|>"))
    gap: str = "\n"
    arrange: Callable[[Sequence[Message]], Sequence[Message]] = list

    @property
    def special_names(self) -> list[str]:
        """Names of the special tokens that the vocabulary needs, each once."""
        texts = (self.start, *self.heads.values(), self.last_head or "", *self.ends.values())
        return list(dict.fromkeys(_SPECIAL.findall("".join(texts))))

    @property
    def answer_head(self) -> str:
        """The text after which the model answers."""
        return self.heads["assistant"] if self.last_head is None else self.last_head

    def parts(self, messages: Sequence[Message]) -> Iterator[Part]:
        """Yield the text of a conversation.

        Raises:
            ValueError: The format can't express it.
        """
        yield from _format_parts(self.start)
        asked = False
        arranged = self.arrange(messages)
        for number, (role, content) in enumerate(arranged, start=1):
            is_answer = role == "assistant"
            is_last = is_answer and asked and number == len(arranged)
            asked = asked or role == "user"
            yield from _format_parts(self.answer_head if is_last else self.heads[role])
            yield Part(content, False, is_answer)
            yield from _format_parts(self.ends[role], is_answer=is_answer)
            yield from _format_parts(self.gap)


def _stripped(messages: Sequence[Message]) -> list[Message]:
    """Strip the white space around each message."""
    return [Message(role, content.strip()) for role, content in messages]


def _dated(messages: Sequence[Message]) -> list[Message]:
    """Write two dates before the system message, as Llama 3.1 to 3.3 do.

    The second is today's date. Here it is always the one that the published templates use without a calendar,
    so that a run is the same on every day.
    """
    messages = _stripped(messages)
    system = ""
    if messages and messages[0].role == "system":
        system, messages = messages[0].content, messages[1:]
    dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
    return [Message("system", dates + system), *messages]


def _without_reasoning(messages: Sequence[Message]) -> list[Message]:
    """Check that no answer has reasoning; an answer that ends the conversation has no line end before it.

    Raises:
        ValueError: An answer has reasoning.
    """
    if any(role == "assistant" and "</think>" in content for role, content in messages):
        raise ValueError("an answer has </think>, but the format qwen3 learns answers without reasoning")
    return [
        Message(role, content.lstrip("\n") if role == "assistant" and number == len(messages) else content)
        for number, (role, content) in enumerate(messages, start=1)
    ]


def _system_in_last_question(messages: Sequence[Message]) -> list[Message]:
    """Put the system message before the last message of the user.

    Raises:
        ValueError: User and assistant don't take turns.
    """
    rest = list(messages)
    system = rest.pop(0).content if rest and rest[0].role == "system" else None
    if any(role != ("user", "assistant")[number % 2] for number, (role, _) in enumerate(rest)):
        raise ValueError(
            "in the format mistral, user and assistant take turns, after one system message at most"
        )
    if system is not None and rest:
        last = (len(rest) - 1) // 2 * 2
        rest[last] = Message("user", f"{system}\n\n{rest[last].content}")
    return rest


_CHATML = ChatFormat()
_LLAMA3 = ChatFormat(
    start="<|begin_of_text|>",
    heads={role: f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ROLES},
    ends=dict.fromkeys(ROLES, "<|eot_id|>"),
    gap="",
    arrange=_stripped,
)
FORMATS = {
    "smollm2": replace(
        _CHATML, system="You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    ),
    "chatml": _CHATML,
    "qwen2": replace(_CHATML, system="You are a helpful assistant."),
    "qwen2.5": replace(
        _CHATML, system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    ),
    "qwen3": replace(  # answers without reasoning
        _CHATML,
        last_head="<|im_start|>assistant\n<think>\n\n</think>\n\n",
        arrange=_without_reasoning,
    ),
    "llama3": _LLAMA3,
    "llama3.1": replace(_LLAMA3, arrange=_dated),  # and 3.2, 3.3
    "mistral": ChatFormat(  # version 3 of the format, for vocabularies of bytes
        start="<s>",
        heads={"user": "[INST]", "assistant": ""},
        ends={"user": "[/INST]", "assistant": "</s>"},
        gap="",
        arrange=_system_in_last_question,
    ),
}
"""The formats that `data.template` names."""
_SPECIAL = re.compile(r"(<\|\w+\|>|\[/?INST\]|</?s>|</?think>)")


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
            ids = tokenizer.encode_after(encoded.ids, "".join(texts))
        encoded.ids.extend(ids)
        encoded.is_answer.extend([is_answer] * len(ids))
    return encoded


def _format_parts(text: str, *, is_answer: bool = False) -> Iterator[Part]:
    """Split a text of a format at its special tokens."""
    for number, piece in enumerate(_SPECIAL.split(text)):
        if piece:
            yield Part(piece, number % 2 == 1, is_answer)

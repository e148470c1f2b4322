"""Encode conversations in the format that a chat model was trained on."""

from dataclasses import dataclass
from typing import Any

from datamodules.text.chat_formats import (
    FORMATS,
    ChatFormat,
    Message,
    encode_conversation,
    encode_text,
    missing_special,
)


@dataclass(frozen=True, kw_only=True)
class Chat:
    """The format of a conversation, as token ids that follow each other.

    For example, in ChatML:

        opening      <|im_start|>system⏎ …<|im_end|>⏎
        question     <|im_start|>user⏎ …<|im_end|>⏎<|im_start|>assistant⏎
        (the model's answer)
        answer_end   <|im_end|>⏎

    The name of a special token inside a message stays text; it does not become that token.
    """

    tokenizer: Any  # a tokenizer with the special tokens of the format
    chat_format: ChatFormat
    system: str | None  # the system message; None for none

    def __call__(self, message: str) -> list[int]:
        """Encode a conversation of one message, up to the model's answer.

        Raises:
            ValueError: The message has characters that the vocabulary lacks.
        """
        return [*self.opening(), *self.question(message)]

    def opening(self) -> list[int]:
        """Encode what precedes the first message of the user."""
        return self._encode([], self.system)

    def question(self, message: str) -> list[int]:
        """Encode a user's message, the last one, and the beginning of the answer."""
        return [*self._asked(message, self.system), *self.answer_start()]

    def past_question(self, message: str) -> list[int]:
        """Encode a user's message and the beginning of the answer, in a conversation that goes on.

        Some formats mark the last question or answer. In the others, this is `question`.
        """
        head = self.chat_format.heads["assistant"]
        return [*self._asked(message, None), *encode_text(self.tokenizer, head)]

    def answer_start(self) -> list[int]:
        """Encode what precedes an answer."""
        return encode_text(self.tokenizer, self.chat_format.answer_head)

    def answer_end(self) -> list[int]:
        """Encode what follows an answer."""
        return encode_text(self.tokenizer, self.chat_format.ends["assistant"] + self.chat_format.gap)

    def _asked(self, message: str, system: str | None) -> list[int]:
        return self._encode([Message("user", message)], system)[len(self._encode([], system)) :]

    def _encode(self, messages: list[Message], system: str | None) -> list[int]:
        return encode_conversation(self.tokenizer, messages, self.chat_format, system=system).ids


def chat_of(template: str | None, tokenizer: Any) -> Chat | None:
    """Return the chat format that `data.template` names.

    Returns:
        None if there is no such format, or the vocabulary lacks its special tokens.
    """
    chat_format = FORMATS.get(template or "")
    if chat_format is None or missing_special(tokenizer, chat_format):
        return None
    return Chat(tokenizer=tokenizer, chat_format=chat_format, system=chat_format.system)

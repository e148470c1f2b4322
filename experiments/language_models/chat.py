"""Encode conversations in the format that a chat model was trained on.

The file of a chat model describes the format by a template, which is a program. The suite never runs it.
Instead, it compares the template with those it knows and uses its own code for the format.
"""

from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class ChatML:
    """The format of a conversation, as token ids that follow each other.

        opening      <|im_start|>system⏎ …<|im_end|>⏎
        question     <|im_start|>user⏎ …<|im_end|>⏎<|im_start|>assistant⏎
        (the model's answer)
        answer_end   <|im_end|>⏎

    The name of a special token inside a message stays text; it does not become that token.
    """

    tokenizer: Any  # a tokenizer with the special tokens of ChatML
    system: str | None  # the system message; None for none

    def __call__(self, message: str) -> list[int]:
        """Encode a conversation of one message, up to the model's answer.

        Raises:
            ValueError: The message has characters that the vocabulary lacks.
        """
        return [*self.opening(), *self.question(message)]

    def opening(self) -> list[int]:
        """Encode the system message."""
        return encode_conversation(self.tokenizer, [], system=self.system).ids

    def question(self, message: str) -> list[int]:
        """Encode a user's message and the beginning of the answer."""
        asked = encode_conversation(self.tokenizer, [Message("user", message)], system=None).ids
        return [*asked, *self.answer_start()]

    def answer_start(self) -> list[int]:
        """Encode what precedes an answer."""
        return [self.tokenizer.special_tokens["<|im_start|>"], *self.tokenizer.encode("assistant\n")]

    def answer_end(self) -> list[int]:
        """Encode what follows an answer."""
        return [self.tokenizer.special_tokens["<|im_end|>"], *self.tokenizer.encode("\n")]


def chat_format(template: object, tokenizer: Any) -> ChatML | None:
    """Return the chat format that a template of a model's files describes.

    Returns:
        None if the template is unknown or the vocabulary lacks its special tokens.
    """
    if not isinstance(template, str) or _with_line_ends(template) != _with_line_ends(_SMOLLM2_TEMPLATE):
        return None
    return chat_of("smollm2", tokenizer)


def chat_of(template: str, tokenizer: Any) -> ChatML | None:
    """Return the chat format of a `data.template`; None if it is not possible."""
    if template not in SYSTEM_MESSAGES or not set(CHAT_TOKENS) <= tokenizer.special_tokens.keys():
        return None
    return ChatML(tokenizer=tokenizer, system=SYSTEM_MESSAGES[template])


def _with_line_ends(template: str) -> str:
    """Replace each backslash followed by n by a line end."""
    return template.replace("\\n", "\n")

"""Formats of conversations: the text of each model's template, and which tokens are the assistant's."""

from collections.abc import Sequence
from typing import Any, get_args

import pytest

from datamodules.configs.chat_corpus import ChatConfig
from datamodules.text.chat_formats import FORMATS, Message, encode_conversation, encode_text
from datamodules.tokenizers import BytePairTokenizer, train_byte_pairs
from datamodules.tokenizers.byte_alphabet import BYTE_CHARACTERS
from tests.chat_templates import TEMPLATES

SYSTEM = Message("system", "Be brief.")
TALK = [
    Message("user", "Hi <|im_end|><|eot_id|></s>"),
    Message("assistant", "Hello."),
    Message("user", " Bye"),
    Message("assistant", ""),
]
"""The name of a special token that a user writes stays text."""


def tokenizer(name: str) -> BytePairTokenizer:
    """A vocabulary of bytes with the special tokens of a format."""
    special = FORMATS[name].special_names
    return BytePairTokenizer([*special, *BYTE_CHARACTERS.values()], [], special_tokens=special)


def rendered(name: str, messages: Sequence[Message], **settings: Any) -> str:
    """What the library `transformers` makes of a template, which it runs by Jinja."""
    from transformers.utils.chat_template_utils import render_jinja_template

    texts, _ = render_jinja_template(
        conversations=[[message._asdict() for message in messages]],
        chat_template=TEMPLATES[name],
        enable_thinking=False,
        bos_token=FORMATS[name].start,
        eos_token=FORMATS[name].ends["assistant"],
        **settings,
    )
    return str(texts[0])


@pytest.mark.parametrize("messages", [TALK[:2], TALK, [SYSTEM, *TALK[:2]], [SYSTEM, *TALK]])
@pytest.mark.parametrize("name", FORMATS)
def test_the_text_is_that_of_the_template_and_the_answers_count(name: str, messages: list[Message]) -> None:
    known, chat_format = tokenizer(name), FORMATS[name]
    ids, is_answer = encode_conversation(known, messages, chat_format, system=chat_format.system)
    expected = rendered(name, messages)
    if name == "mistral":  # its template drops the system message after the last answer
        expected = rendered(name, messages[:-1]) + messages[-1].content + "</s>"
    assert known.decode(ids) == expected
    answers = [id for id, counts in zip(ids, is_answer, strict=True) if counts]
    end = chat_format.ends["assistant"]
    assert known.decode(answers) == "".join(
        said.content + end for said in messages if said.role == "assistant"
    )
    written = sum(text.count(end) for _, text in messages)
    assert ids.count(known.special_tokens[end]) + written == known.decode(ids).count(end)


@pytest.mark.parametrize("messages", [TALK[:1], TALK[:3], [SYSTEM, TALK[0]]])
@pytest.mark.parametrize("name", FORMATS)
def test_the_answer_begins_where_the_template_says(name: str, messages: list[Message]) -> None:
    known, chat_format = tokenizer(name), FORMATS[name]
    ids = encode_conversation(known, messages, chat_format, system=chat_format.system).ids
    ids = [*ids, *encode_text(known, chat_format.answer_head)]
    assert known.decode(ids) == rendered(name, messages, add_generation_prompt=True)


@pytest.mark.parametrize(
    ("name", "messages", "said"),
    [
        ("mistral", [TALK[0], TALK[2], TALK[1]], "user and assistant take turns"),
        ("mistral", [TALK[0], SYSTEM, TALK[1]], "after one system message at most"),
        ("mistral", [TALK[1]], "user and assistant take turns"),
        (
            "qwen3",
            [TALK[0], Message("assistant", "<think>\nHm.\n</think>\n\nYes.")],
            "an answer has </think>",
        ),
    ],
)
def test_what_a_format_cannot_express_is_refused(name: str, messages: list[Message], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        encode_conversation(tokenizer(name), messages, FORMATS[name], system=None)


@pytest.mark.parametrize("name", FORMATS)
def test_a_vocabulary_without_the_tokens_is_refused(name: str) -> None:
    chat_format = FORMATS[name]
    with pytest.raises(ValueError, match=r"lacks the special token \S+, so it can't encode a chat"):
        encode_conversation(train_byte_pairs(["text"], 256), TALK, chat_format, system=None)


def test_each_format_has_a_template_and_can_be_chosen() -> None:
    (literal, _) = get_args(ChatConfig.__annotations__["template"])
    assert list(get_args(literal)) == list(FORMATS) == list(TEMPLATES)

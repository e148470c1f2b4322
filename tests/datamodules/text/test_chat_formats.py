"""Formats of conversations: the text of each model's template, and which tokens are the assistant's."""

import string
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any, get_args

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from datamodules.configs.chat_corpus import ChatConfig
from datamodules.text.chat_formats import FORMATS, Message, encode_conversation, encode_text
from datamodules.tokenizers import BytePairTokenizer, read_tokenizer_json, train_byte_pairs
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


def published(scheme: str, special: list[str]) -> Tokenizer:
    """A vocabulary of the library, with or without byte fallback; `scheme` says which texts get a space."""
    normalizer, pre_tokenizer = SCHEMES[scheme]
    fallback = not isinstance(pre_tokenizer, pre_tokenizers.ByteLevel)
    space = "▁" if fallback else "Ġ"
    alphabet = list(BYTE_CHARACTERS.values())
    if fallback:
        alphabet = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", *string.ascii_letters]
    merges = [("H", "i"), (space, "Hi"), (space, "u"), (space, "y"), (space, "s")]
    names = [*alphabet, *map("".join, merges)]
    vocab = {name: id for id, name in enumerate(names)}
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=fallback))
    if normalizer is not None:
        made.normalizer = normalizer
    if pre_tokenizer is not None:
        made.pre_tokenizer = pre_tokenizer
    made.add_special_tokens([AddedToken(name, rstrip=scheme == "rstrip") for name in special])
    return made


SPOKEN = [
    Message("system", "Be brief."),
    Message("user", "Hi you  two"),
    Message("assistant", "Hi"),
    Message("user", " yes"),
    Message("assistant", "  so Hi "),
]
SCHEMES: dict[str, tuple[Any, Any]] = {
    "prepend": (normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None),
    "first": (None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
    "always": (None, pre_tokenizers.Metaspace(prepend_scheme="always", split=False)),
    "never": (None, pre_tokenizers.Metaspace(prepend_scheme="never", split=False)),
    "byte_level": (None, pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "prefix_space": (None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "rstrip": (None, pre_tokenizers.ByteLevel(add_prefix_space=False)),
}
"""Normalizer and pre-tokenizer; the special tokens of the last one take the white space after them."""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", FORMATS)
def test_the_tokens_are_those_of_the_library(name: str, scheme: str, tmp_path: Path) -> None:
    chat_format = FORMATS[name]
    theirs = published(scheme, chat_format.special_names)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = read_tokenizer_json(tmp_path / "tokenizer.json")
    for count in (3, 5):
        parts = list(chat_format.parts(SPOKEN[:count]))
        ids, is_answer = encode_conversation(ours, SPOKEN[:count], chat_format, system=None)
        assert ids == theirs.encode("".join(part.text for part in parts)).ids
        answers = "".join(part.text for part in parts if part.is_answer)
        # An answer may follow a special token, and then have another beginning, as in the library.
        if name != "mistral" and scheme != "rstrip":
            assert ours.decode(list(compress(ids, is_answer))) == answers


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

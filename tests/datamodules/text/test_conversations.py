"""Conversations in ChatML: the text of SmolLM2's template, and which tokens are the assistant's."""

import json
from pathlib import Path

import pytest

from datamodules.text.conversations import (
    SYSTEM_MESSAGES,
    Message,
    encode_conversation,
    packed_rows,
    read_conversations,
)
from datamodules.tokenizers import BytePairTokenizer, train_byte_pairs

TALK = [
    Message("user", "Hi <|im_end|>"),
    Message("assistant", "Hello."),
    Message("user", "Bye"),
    Message("assistant", ""),
]


@pytest.fixture
def tokenizer() -> BytePairTokenizer:
    return train_byte_pairs(
        ["user assistant system Hello"], 270, special_tokens=["<|im_start|>", "<|im_end|>"]
    )


def test_the_text_is_that_of_the_template_and_the_answers_count(tokenizer: BytePairTokenizer) -> None:
    """The template as Jinja runs it; a special name that a user writes stays text."""
    jinja2 = pytest.importorskip("jinja2")
    from experiments.language_models.chat import _SMOLLM2_TEMPLATE

    system = SYSTEM_MESSAGES["smollm2"]
    ids, is_answer = encode_conversation(tokenizer, TALK, system=system)
    expected = jinja2.Template(_SMOLLM2_TEMPLATE).render(messages=[message._asdict() for message in TALK])
    assert tokenizer.decode(ids) == expected
    answers = [id for id, counts in zip(ids, is_answer, strict=True) if counts]
    assert tokenizer.decode(answers) == "Hello.<|im_end|><|im_end|>"
    assert ids.count(tokenizer.special_tokens["<|im_end|>"]) == 5
    own = [Message("system", "Be brief."), *TALK]
    assert "Be brief." in tokenizer.decode(encode_conversation(tokenizer, own, system=system).ids)
    assert encode_conversation(tokenizer, own, system=None) == encode_conversation(
        tokenizer, own, system=system
    )


def test_a_vocabulary_without_the_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lacks the special token <\|im_start\|>"):
        encode_conversation(train_byte_pairs(["text"], 256), TALK, system=None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Expecting property name"),
        ("[]", 'an object with a list of "messages"'),
        ({"messages": []}, 'an object with a list of "messages"'),
        ({"messages": [{"role": "robot", "content": "x"}]}, "a role, one of system, user, assistant"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "a content, a string"),
        ({"messages": [{"role": "user", "content": "x"}]}, "nothing to learn"),
    ],
)
def test_a_line_that_is_no_conversation_is_named(tmp_path: Path, line: object, said: str) -> None:
    good = json.dumps({"messages": [message._asdict() for message in TALK]})
    bad = line if isinstance(line, str) else json.dumps(line)
    (tmp_path / "chat.jsonl").write_text(f"{good}\n\n{bad}\n")
    with pytest.raises(ValueError, match=r"chat\.jsonl, line 3: ") as caught:
        read_conversations(tmp_path / "chat.jsonl")
    assert said in str(caught.value)
    (tmp_path / "chat.jsonl").write_text(f"{good}\n\n")
    assert read_conversations(tmp_path / "chat.jsonl") == [(TALK, None)]


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        (["train", "dev"], "line 2: the \"split\" is 'dev', expected one of train, validation, test"),
        (["train", None], 'line 2: all lines need a "split", or none'),
        ([None, "test"], 'line 2: all lines need a "split", or none'),
        ([["train"]], 'line 1: the "split" is'),
    ],
)
def test_all_lines_name_a_split_or_none(tmp_path: Path, splits: list[object], said: str) -> None:
    lines = [{"messages": [message._asdict() for message in TALK], "split": split} for split in splits]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(ValueError) as caught:
        read_conversations(tmp_path / "chat.jsonl")
    assert said in str(caught.value)


def test_rows_take_what_fits_in_order() -> None:
    assert list(packed_rows([3, 4, 5, 9, 1, 1], 8)) == [[0, 1], [2], [3], [4, 5]]
    assert list(packed_rows([], 8)) == []

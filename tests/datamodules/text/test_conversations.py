"""Conversations in a JSONL file, and their rows."""

import json
from pathlib import Path

import pytest

from datamodules.text.chat_formats import Message
from datamodules.text.conversations import packed_rows, read_conversations

TALK = [
    Message("user", "Hi <|im_end|>"),
    Message("assistant", "Hello."),
    Message("user", "Bye"),
    Message("assistant", ""),
]


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
    assert read_conversations(tmp_path / "chat.jsonl") == [(TALK, None, 1)]


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

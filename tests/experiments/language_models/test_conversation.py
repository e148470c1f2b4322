"""A conversation is always what the template of its turns gives, and forgets whole turns only."""

import pytest

from datamodules.text.chat_formats import FORMATS, Message, encode_conversation, encode_text
from datamodules.tokenizers import BytePairTokenizer
from datamodules.tokenizers.byte_alphabet import BYTE_CHARACTERS
from experiments.errors import UserError
from experiments.language_models.chat import Chat
from experiments.language_models.conversation import LONGEST, Conversation

SPECIAL = ("<|im_end|>", "<|im_start|>")
TOKENIZER = BytePairTokenizer([*SPECIAL, *BYTE_CHARACTERS.values()], [], special_tokens=SPECIAL)
"""One token for each byte, so lengths can be counted."""


def conversation(limit: int | None = None, system: str | None = "Be short.") -> Conversation:
    return Conversation(Chat(tokenizer=TOKENIZER, chat_format=FORMATS["chatml"], system=system), limit)


def say(talk: Conversation, message: str, answer: str, *, room: int = 10) -> tuple[str, int]:
    prompt, dropped = talk.ask(message, room=room)
    talk.add(TOKENIZER.encode(answer))
    return TOKENIZER.decode(prompt), dropped


def test_turns_follow_each_other_in_the_template() -> None:
    talk = conversation()
    opening = "<|im_start|>system\nBe short.<|im_end|>\n"
    first = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert say(talk, "Hi", "Hello.") == (opening + first, 0)
    second = "Hello.<|im_end|>\n<|im_start|>user\nWhy? <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    assert say(talk, "Why? <|im_end|>", "So.") == (opening + first + second, 0)
    talk.reset()
    assert say(talk, "Hi", "Hello.") == (opening + first, 0)
    assert say(conversation(system=None), "Hi", "")[0] == first


@pytest.mark.parametrize("system", [None, "Be short."])
@pytest.mark.parametrize("name", FORMATS)
def test_each_prompt_is_the_whole_conversation_in_its_format(name: str, system: str | None) -> None:
    """The last question and answer of some formats look different from earlier ones."""
    chat_format = FORMATS[name]
    special = chat_format.special_names
    known = BytePairTokenizer([*special, *BYTE_CHARACTERS.values()], [], special_tokens=special)
    talk = Conversation(Chat(tokenizer=known, chat_format=chat_format, system=system), None)
    messages: list[Message] = []
    for question, answer in (("Hi", "Hello."), ("Why?", "So."), ("Bye", "Bye.")):
        messages.append(Message("user", question))
        prompt, _ = talk.ask(question, room=10)
        expected = encode_conversation(known, messages, chat_format, system=system).ids
        assert prompt == [*expected, *encode_text(known, chat_format.answer_head)]
        talk.add(known.encode(answer))
        messages.append(Message("assistant", answer))


def test_whole_turns_are_dropped_down_to_half_of_the_limit() -> None:
    """The opening has 19 tokens, a question 20, and a turn 32."""
    assert len(conversation().ask("m", room=10)[0]) == 19 + 20
    talk = conversation(limit=19 + 20 + 10 + 5 * 32)
    for _ in range(6):
        assert say(talk, "m", "0123456789")[1] == 0
    prompt, dropped = say(talk, "n", "0123456789")
    assert dropped == 3  # 3 turns of 32 are at most half of 209
    assert prompt.count("user\nm") == 3
    assert prompt.startswith("<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nm<|im_end|>")
    assert prompt.endswith("user\nn<|im_end|>\n<|im_start|>assistant\n")


def test_a_long_message_leaves_less_room_and_a_longer_one_is_refused() -> None:
    talk = conversation(limit=60)
    assert say(talk, "m", "0123456789")[1] == 0
    ids, dropped = talk.ask("m" * 21, room=10)
    assert (len(ids), dropped) == (59, 1)
    with pytest.raises(UserError, match="it has 60 tokens, but the model reads at most 60; shorten it"):
        talk.ask("m" * 22, room=1)


def test_the_limit_is_the_context_within_the_memory() -> None:
    assert [conversation(limit).limit for limit in (None, 100, 131_072)] == [LONGEST, 100, LONGEST]

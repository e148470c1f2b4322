"""Characters as tokens, and the message for unknown characters."""

import pytest

from datamodules.tokenizers import CharacterTokenizer


def test_ids_are_places_in_the_sorted_alphabet() -> None:
    tokenizer = CharacterTokenizer.of(["hel", "lo"])
    assert tokenizer.alphabet == "ehlo"
    assert tokenizer.encode("hello") == [1, 0, 2, 2, 3]
    assert tokenizer.decode([3, 1, 2, 3, 2]) == "ohlol"


def test_unknown_characters_are_named_with_the_first_position() -> None:
    with pytest.raises(
        ValueError, match=r"lacks: 'x', 'é', first at position 2; the 4 known characters are 'ehlo'"
    ):
        CharacterTokenizer("ehlo").encode("hexéx")


def test_the_position_counts_all_chunks_of_a_stream() -> None:
    stream = CharacterTokenizer("ehlo").encode_chunks(["hello", "he!"])
    assert next(stream) == [1, 0, 2, 2, 3]
    with pytest.raises(ValueError, match="first at position 7"):
        next(stream)


def test_a_large_alphabet_is_not_listed_and_many_unknown_ones_are_not_either() -> None:
    tokenizer = CharacterTokenizer("".join(map(chr, range(0x400, 0x800))))
    with pytest.raises(
        ValueError, match=r"vocabulary of 1024 lacks: 'a', 'b', 'c', 'd', 'e' …, first at"
    ) as e:
        tokenizer.encode("abcdefg")
    assert len(str(e.value)) < 150


@pytest.mark.parametrize(
    ("alphabet", "message"), [("", "the alphabet is empty"), ("abca", "has 'a' more than once")]
)
def test_an_alphabet_has_each_character_once(alphabet: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CharacterTokenizer(alphabet)

"""The byte alphabet against the library's."""

import pytest
from tokenizers import pre_tokenizers

from datamodules.tokenizers.byte_alphabet import BYTE_CHARACTERS, to_bytes, to_characters


def test_every_byte_has_its_character() -> None:
    everything = bytes(range(256))
    assert to_bytes(to_characters(everything)) == everything
    assert set(to_characters(everything)) == set(pre_tokenizers.ByteLevel.alphabet())
    assert (BYTE_CHARACTERS[0x20], BYTE_CHARACTERS[0x0A], BYTE_CHARACTERS[0x61]) == ("Ġ", "Ċ", "a")


@pytest.mark.parametrize("text", ["é€", "\U0001f600", " a\n", "ÿ\x00\x7f\xad"])
def test_the_characters_are_those_of_the_library(text: str) -> None:
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    assert to_characters(text.encode()) == "".join(piece for piece, _ in cut)


def test_a_character_outside_the_byte_alphabet_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'a b' is not in GPT-2's byte alphabet, which has no ' '"):
        to_bytes("a b")

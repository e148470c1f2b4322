"""Names of special tokens in a text: found across chunks, and left out of what a vocabulary learns."""

import pytest

from datamodules.tokenizers import Tokenizer, tokenizer_from_dict, train_by_library, train_byte_pairs
from datamodules.tokenizers.special_names import special_pattern, split_special, without_special

NAMES = ["<a>", "<a>b", "<end>"]
TEXT = "one <a> two<a>b<end><end> three <a>bc <en d> <e" * 3


@pytest.mark.parametrize("size", [1, 2, 3, 5, 50, 1000])
def test_parts_join_to_the_text_and_find_every_name(size: int) -> None:
    chunks = [TEXT[i : i + size] for i in range(0, len(TEXT), size)]
    parts = list(split_special(chunks, special_pattern(NAMES), 5))
    assert "".join(part.text for part in parts) == TEXT
    assert all(TEXT[part.offset :].startswith(part.text) for part in parts)
    found = [part.text for part in parts if part.is_special]
    assert found == ["<a>", "<a>b", "<end>", "<end>", "<a>b"] * 3
    assert not any(part.text in NAMES for part in parts if not part.is_special)


def test_texts_between_names() -> None:
    chunks = ["one<e", "nd>two", "<end><end>", "three"]
    assert ["".join(text) for text in without_special(chunks, ["<end>"])] == ["one", "two", "three"]
    assert [list(text) for text in without_special(chunks, [])] == [chunks]


@pytest.mark.parametrize("train", [train_byte_pairs, train_by_library])
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_vocabulary_learns_none_of_a_name(train, size: int) -> None:
    """The name is the most frequent string of the text, and neither it nor its neighbours are merged."""
    text = "low lower lowest<end>" * 20
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    tokenizer: Tokenizer = train(chunks, 264, special_tokens=["<end>"])
    assert (tokenizer.vocab_size, tokenizer.special_tokens) == (264, {"<end>": 263})
    assert not any(b"<" in tokenizer.token_bytes(id) for id in range(256, 263))
    assert tokenizer.encode(text, allow_special=True).count(263) == 20
    assert 263 not in tokenizer.encode(text)
    streamed = [id for ids in tokenizer.encode_chunks(chunks, allow_special=True) for id in ids]
    assert streamed == tokenizer.encode(text, allow_special=True)
    assert tokenizer_from_dict(tokenizer.to_dict()).encode(text) == tokenizer.encode(text)
    assert tokenizer.decode(streamed) == text

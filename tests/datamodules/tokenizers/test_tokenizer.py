"""Properties of every tokenizer: round trips, streams, special tokens, plain data."""

import json
from collections.abc import Iterator

import pytest

from datamodules.tokenizers import (
    BytePairTokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    LibraryBytePairTokenizer,
    Tokenizer,
    tokenizer_from_dict,
    train_byte_pairs,
)
from datamodules.tokenizers.tokenizer import Tokenizer as Base

KINDS = ["character", "byte", "by_hand", "library", "digits", "library digits"]
SPECIAL = ["<|endoftext|>", "<|end|>", "<|endoftext|>!"]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, hard_texts: list[str]) -> Tokenizer:
    match request.param:
        case "character":
            return CharacterTokenizer.of(hard_texts)
        case "byte":
            return ByteTokenizer()
    digits = "digits" in request.param
    trained = train_byte_pairs(hard_texts * 2, 600, individual_digits=digits)
    kind = LibraryBytePairTokenizer if "library" in request.param else BytePairTokenizer
    return kind([*trained.tokens, *SPECIAL], trained.merges, special_tokens=SPECIAL, individual_digits=digits)


def pieces(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


@pytest.mark.slow
def test_any_text_comes_back(tokenizer: Tokenizer, hard_texts: list[str]) -> None:
    for text in [*hard_texts, "".join(hard_texts)]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(0 <= id < tokenizer.vocab_size for id in ids)
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_a_stream_gives_the_ids_of_the_whole(tokenizer: Tokenizer, hard_texts: list[str], size: int) -> None:
    for text in [*hard_texts[:30], "".join(hard_texts)]:
        streamed = [id for ids in tokenizer.encode_chunks(pieces(text, size)) for id in ids]
        assert streamed == tokenizer.encode(text)


def test_a_stream_is_read_as_it_is_used(tokenizer: Tokenizer) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "a 1 b! " * 100

    stream = tokenizer.encode_chunks(endless())
    for _ in range(20):
        next(stream)
    assert read <= 30


def test_plain_data_survives_json(tokenizer: Tokenizer, hard_texts: list[str]) -> None:
    plain = json.loads(json.dumps(tokenizer.to_dict()))
    again = tokenizer_from_dict(plain)
    assert type(again) is type(tokenizer)
    assert again.to_dict() == tokenizer.to_dict() == plain
    assert again.vocab_size == tokenizer.vocab_size
    assert again.special_tokens == tokenizer.special_tokens
    text = "".join(hard_texts)
    assert again.encode(text) == tokenizer.encode(text)


def test_plain_data_is_a_copy(tokenizer: Tokenizer) -> None:
    for value in tokenizer.to_dict().values():
        if isinstance(value, list):
            value.clear()
    assert tokenizer.decode(tokenizer.encode("a1")) == "a1"


def test_special_tokens_are_made_only_when_allowed(tokenizer: Tokenizer) -> None:
    if not tokenizer.special_tokens:
        pytest.skip("this tokenizer has no special tokens")
    text = "one<|endoftext|>! two<|end|><|endoftext|>"
    special = set(tokenizer.special_tokens.values())
    assert not special & set(tokenizer.encode(text))
    assert not special & {id for ids in tokenizer.encode_chunks([text]) for id in ids}
    ids = tokenizer.encode(text, allow_special=True)
    assert ids == [
        *tokenizer.encode("one"),
        tokenizer.special_tokens["<|endoftext|>!"],  # the longest name that fits
        *tokenizer.encode(" two"),
        tokenizer.special_tokens["<|end|>"],
        tokenizer.special_tokens["<|endoftext|>"],
    ]
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode("no name", allow_special=True) == tokenizer.encode("no name")


@pytest.mark.parametrize("id", [-1, "vocab_size", 10**9])
def test_an_id_beyond_the_vocabulary_is_refused(tokenizer: Tokenizer, id: int | str) -> None:
    wrong = tokenizer.vocab_size if isinstance(id, str) else id
    for act in (lambda: tokenizer.token_bytes(wrong), lambda: tokenizer.decode([0, wrong])):
        with pytest.raises(
            ValueError, match=rf"token {wrong} is not in the vocabulary, which has the ids 0 … \d+"
        ):
            act()


@pytest.mark.parametrize("text", ["\ud800", "a\udfff b"])
def test_lone_surrogates_are_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(ValueError):
        tokenizer.encode(text)


def test_invalid_utf8_is_decoded_to_replacement_characters() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.decode([0x61, 0xE2, 0x82]) == "a\ufffd"
    assert tokenizer.decode([0xFF, 0x62]) == "\ufffdb"


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError):
        Base()  # type: ignore[abstract]

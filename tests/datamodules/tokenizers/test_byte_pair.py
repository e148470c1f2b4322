"""Merging by hand against the library, and invalid vocabularies."""

from collections.abc import Callable

import pytest

from datamodules.tokenizers import BytePairTokenizer, LibraryBytePairTokenizer, train_byte_pairs
from datamodules.tokenizers.byte_pair import join_pair
from datamodules.tokenizers.byte_pair_training import BYTE_TOKENS


@pytest.fixture(scope="module", params=[False, True])
def trained(request: pytest.FixtureRequest, hard_texts: list[str]) -> BytePairTokenizer:
    return train_byte_pairs(hard_texts * 2, 700, individual_digits=request.param)


def test_ids_are_the_librarys(
    trained: BytePairTokenizer, hard_texts: list[str], known: Callable[[str], str]
) -> None:
    assert len(trained.merges) > 100
    library = LibraryBytePairTokenizer(
        trained.tokens, trained.merges, individual_digits=trained.individual_digits
    )
    unseen = ["the thee there's a thing 1234 ththth  ", "a" * 1000, "'ll" * 50, "é" * 77 + "中" * 31]
    for text in map(known, [*hard_texts, *unseen, "".join(hard_texts)]):
        assert trained.encode(text) == library.encode(text)


def test_the_first_merge_of_the_list_goes_first() -> None:
    tokens = [*BYTE_TOKENS, "bc", "ab", "abc"]
    by_order = {order: BytePairTokenizer(tokens, order.split(", ")) for order in ("b c, a b", "a b, b c")}
    assert by_order["b c, a b"].encode("abc") == [ord("a"), 256]
    assert by_order["a b, b c"].encode("abc") == [257, ord("c")]
    assert BytePairTokenizer(tokens, ["a b", "ab c"]).encode("abcab") == [258, 257]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [([1, 1, 1], [9, 1]), ([1, 1, 1, 1], [9, 9]), ([1], [1]), ([], []), ([2, 1, 1], [2, 9])],
)
def test_pairs_are_joined_from_the_left(ids: list[int], expected: list[int]) -> None:
    assert join_pair(ids, (1, 1), 9) == expected


def test_a_long_piece_is_merged_in_reasonable_time() -> None:
    tokenizer = train_byte_pairs(["a" * 5000], 300)
    ids = tokenizer.encode("a" * 50_000)
    assert tokenizer.decode(ids) == "a" * 50_000
    assert len(ids) < 100


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.tokenizers.byte_pair._CACHED", 10)
    tokenizer = BytePairTokenizer(BYTE_TOKENS, [])
    for n in range(100):
        assert tokenizer.decode(tokenizer.encode(f"w{n} x{n}")) == f"w{n} x{n}"
    assert len(tokenizer._cache) <= 14


@pytest.mark.parametrize("kind", [BytePairTokenizer, LibraryBytePairTokenizer])
def test_a_byte_that_the_vocabulary_lacks_is_named(kind: type[BytePairTokenizer]) -> None:
    tokenizer = kind([t for t in BYTE_TOKENS if t not in ("Ą", "ñ")], [])  # bytes 0x04 and 0xf1
    assert tokenizer.decode(tokenizer.encode("fine é\n")) == "fine é\n"
    with pytest.raises(
        ValueError, match=r"has '\\x04' at position 3, but .* of 254 has no token for .* 0x04"
    ):
        tokenizer.encode("abc\x04")
    stream = tokenizer.encode_chunks(["one two ", "x\U00050000"])
    with pytest.raises(ValueError, match=r"'\\U00050000' at position 9, .* byte 0xf1"):
        list(stream)


@pytest.mark.parametrize(
    ("tokens", "merges", "special", "message"),
    [
        ([], [], [], "needs at least one token"),
        (["a", "b", "a"], [], [], "tokens 0 and 2 are both 'a'"),
        (["a", ""], [], [], "token 1 must be a non-empty string, not ''"),
        (["a", 3], [], [], "token 1 must be a non-empty string, not 3"),
        (["a", "a b"], [], [], "'a b' is not in GPT-2's byte alphabet"),
        (["a", "€"], [], [], "which has no '€'"),
        (["a", "b"], ["a b"], [], "merge 0, 'a b': the vocabulary lacks the token 'ab'"),
        (["a", "ab"], ["a b"], [], "lacks the token 'b'"),
        (["a", "b", "ab"], ["ab"], [], "merge 0 must be two tokens with a space between them, not 'ab'"),
        (["a", "b", "ab"], ["a  b"], [], "merge 0 must be"),
        (["a", "b", "ab"], [None], [], "merge 0 must be"),
        (["a", "b", "ab"], ["a b", "a b"], [], "the merge 'a b' is listed more than once"),
        (["a"], [], ["<|end|>"], r"lacks the special token '<\|end\|>'"),
    ],
)
@pytest.mark.parametrize("kind", [BytePairTokenizer, LibraryBytePairTokenizer])
def test_an_impossible_vocabulary_is_refused(
    kind: type[BytePairTokenizer], tokens: list[str], merges: list[str], special: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(tokens, merges, special_tokens=special)

"""Pieces of a text against the tokenizers library's, whole and in chunks."""

import sys
import time
import unicodedata
from collections.abc import Callable, Iterator

import pytest
from tokenizers import pre_tokenizers

from datamodules.tokenizers.byte_alphabet import to_bytes
from datamodules.tokenizers.pre_tokenization import at_boundaries, split

BY_PATTERN = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
DIGITS_FIRST = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BY_PATTERN])


def librarys(text: str, individual_digits: bool) -> list[str]:
    cut = (DIGITS_FIRST if individual_digits else BY_PATTERN).pre_tokenize_str(text)
    return [to_bytes(piece).decode() for piece, _ in cut]


@pytest.mark.parametrize("individual_digits", [False, True])
def test_pieces_are_the_librarys(
    hard_texts: list[str], known: Callable[[str], str], individual_digits: bool
) -> None:
    for text in map(known, [*hard_texts, "".join(hard_texts)]):
        assert split(text, individual_digits=individual_digits) == librarys(text, individual_digits)


def test_known_characters_are_classed_as_the_library_classes_them() -> None:
    """A piece continues from letter to letter, number to number and mark to mark, never to white space."""
    characters = [
        c
        for c in map(chr, [*range(0x80, 0x3400), *range(0x3400, sys.maxunicode + 1, 7)])
        if unicodedata.category(c) not in ("Cn", "Cs", "Co")
    ]
    text = "".join(f"a{c}1{c}!{c}" for c in characters)
    assert split(text) == librarys(text, False)


@pytest.mark.parametrize(
    ("text", "pieces", "with_digits"),
    [
        ("Hello world", ["Hello", " world"], ["Hello", " world"]),
        ("we'll  go", ["we", "'ll", " ", " go"], ["we", "'ll", " ", " go"]),
        ("in 1984", ["in", " 1984"], ["in", " ", "1", "9", "8", "4"]),
        ("a\n\n b", ["a", "\n\n", " b"], ["a", "\n\n", " b"]),
        ("  7", [" ", " 7"], ["  ", "7"]),
    ],
)
def test_by_example(text: str, pieces: list[str], with_digits: list[str]) -> None:
    assert split(text) == pieces
    assert split(text, individual_digits=True) == with_digits


@pytest.mark.parametrize("individual_digits", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_chunks_end_where_pieces_end(hard_texts: list[str], size: int, individual_digits: bool) -> None:
    for text in [*hard_texts, "".join(hard_texts)]:
        chunks = [text[i : i + size] for i in range(0, len(text), size)]
        cut = [
            piece
            for chunk in at_boundaries(chunks, individual_digits=individual_digits)
            for piece in split(chunk, individual_digits=individual_digits)
        ]
        assert cut == split(text, individual_digits=individual_digits)


@pytest.mark.parametrize("unit", ["word ", "字", "，字字", "!a", "\n", "'l"])
def test_little_is_held_back(unit: str) -> None:
    """This holds for every text except a single long piece, even without white space."""
    fed = handed = most = 0

    def feed() -> Iterator[str]:
        nonlocal fed, most
        for _ in range(200):
            fed += 50 * len(unit)
            yield unit * 50
            most = max(most, fed - handed)

    for chunk in at_boundaries(feed()):
        handed += len(chunk)
    assert handed == fed
    assert (most <= 1000) is (len(split(unit * 3)) > 1)


def test_one_long_piece_takes_time_in_proportion_to_its_length() -> None:
    started = time.process_time()
    (whole,) = at_boundaries("a" * 1000 for _ in range(3000))
    assert len(whole) == 3_000_000
    assert time.process_time() - started < 5  # a search of it all for each chunk takes minutes

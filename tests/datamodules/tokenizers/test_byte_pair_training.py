"""Learned merges against a naive count, and against the library's trainer if there are no ties."""

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from datamodules.tokenizers import BytePairTokenizer, train_by_library, train_byte_pairs
from datamodules.tokenizers.byte_alphabet import to_bytes
from datamodules.tokenizers.byte_pair_training import learn_merges
from datamodules.tokenizers.pre_tokenization import split

Merge = tuple[bytes, bytes]


def count_pairs(words: Counter[tuple[bytes, ...]]) -> Counter[Merge]:
    counts: Counter[Merge] = Counter()
    for word, n in words.items():
        for pair in pairwise(word):
            counts[pair] += n
    return counts


def join(word: tuple[bytes, ...], pair: Merge) -> tuple[bytes, ...]:
    out: list[bytes] = []
    for symbol in word:
        # `out[-1] is …` of a symbol made in this pass must not be taken again: aaa is (aa)a.
        if out and (out[-1], symbol) == pair and not getattr(out[-1], "fresh", False):
            out[-1] = Fresh(out[-1] + symbol)
        else:
            out.append(symbol)
    return tuple(bytes(symbol) for symbol in out)


class Fresh(bytes):
    fresh = True


def naive(text: str, number: int) -> list[Merge]:
    """Count all pairs again for each merge."""
    words: Counter[tuple[bytes, ...]] = Counter(
        tuple(bytes((b,)) for b in piece.encode()) for piece in split(text)
    )
    merges: list[Merge] = []
    while len(merges) < number:
        counts = count_pairs(words)
        if not counts or max(counts.values()) < 2:
            break
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        again: Counter[tuple[bytes, ...]] = Counter()
        for word, n in words.items():
            again[join(word, best)] += n
        words = again
    return merges


def text_of(seed: int, letters: str, words: int) -> str:
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices(letters, k=rng.randrange(1, 9))) for _ in range(40)]
    return " ".join(rng.choices(vocabulary, k=words))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("letters", ["a", "ab", "abcdé中", "etaoinshrdlu'1 \n"])
def test_merges_are_those_of_a_naive_count(seed: int, letters: str) -> None:
    text = text_of(seed, letters, 300)
    pieces = Counter(piece.encode() for piece in split(text))
    merges = learn_merges(pieces, 80)
    assert merges == naive(text, 80)
    assert len(merges) > 3


def test_of_equally_frequent_pairs_the_lexicographically_greater_is_merged() -> None:
    assert learn_merges({b"ab": 2, b"cd": 2, b"ca": 2}, 3) == [(b"c", b"d"), (b"c", b"a"), (b"a", b"b")]
    assert learn_merges({b"z\x01": 2, b"z\xff": 2}, 1) == [(b"z", b"\xff")]


def test_learning_stops_when_no_pair_occurs_twice() -> None:
    assert learn_merges({b"abc": 1, b"de": 1}, 10) == []
    assert learn_merges({}, 10) == []
    assert train_byte_pairs([""], 300).vocab_size == 256


def as_bytes(tokenizer: BytePairTokenizer) -> list[Merge]:
    pairs = (merge.split(" ") for merge in tokenizer.merges)
    return [(to_bytes(left), to_bytes(right)) for left, right in pairs]


def no_ties(text: str, merges: list[Merge]) -> bool:
    """Tell whether each merge was the single most frequent pair."""
    words: Counter[tuple[bytes, ...]] = Counter(
        tuple(bytes((b,)) for b in piece.encode()) for piece in split(text)
    )
    for merge in merges:
        counts = count_pairs(words)
        if list(counts.values()).count(max(counts.values())) > 1:
            return False
        again: Counter[tuple[bytes, ...]] = Counter()
        for word, n in words.items():
            again[join(word, merge)] += n
        words = again
    return True


@pytest.mark.parametrize("seed", range(20))
def test_without_ties_merges_are_the_librarys(seed: int) -> None:
    """Words with a common start and powers of two as counts: different sums never tie."""
    rng = random.Random(seed)
    words = ["".join(rng.sample("abcdefghijklm", k=5)) for _ in range(3)]
    counted = dict.fromkeys(word[:length] for word in words for length in range(2, 6))
    text = "".join(f"\n{word}" * 2 ** (n + 1) for n, word in enumerate(counted))
    number = len(counted)
    ours = train_byte_pairs([text], 256 + number)
    assert no_ties(text, as_bytes(ours))
    assert len(ours.merges) == number
    assert train_by_library([text], 256 + number).merges == ours.merges


def test_on_real_text_they_are_the_librarys_up_to_the_first_tie() -> None:
    sources = sorted((Path(__file__).parents[3] / "datamodules" / "tokenizers").glob("*.py"))
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    ours, library = (train([text], 400) for train in (train_byte_pairs, train_by_library))
    merges = as_bytes(ours)
    differ = (n for n, (a, b) in enumerate(zip(ours.merges, library.merges, strict=True)) if a != b)
    same = next(differ, len(merges))
    assert same >= 5
    assert same == len(merges) or not no_ties(text, merges[: same + 1])


@pytest.mark.parametrize("train", [train_byte_pairs, train_by_library])
def test_a_vocabulary_holds_the_bytes_and_the_results_of_merges(train: object) -> None:
    tokenizer = train(["low lower lowest " * 9], 262)  # type: ignore[operator]
    assert [tokenizer.token_bytes(id) for id in range(256)] == [bytes((b,)) for b in range(256)]
    assert tokenizer.vocab_size == 262
    assert tokenizer.tokens[256:] == [merge.replace(" ", "") for merge in tokenizer.merges]
    assert tokenizer.special_tokens == {}


@pytest.mark.parametrize("train", [train_byte_pairs, train_by_library])
def test_chunks_make_no_difference(train: object, hard_texts: list[str]) -> None:
    text = "".join(hard_texts) * 2
    whole = train([text], 400)  # type: ignore[operator]
    assert train((text[i : i + 7] for i in range(0, len(text), 7)), 400).merges == whole.merges  # type: ignore[operator]


@pytest.mark.parametrize("train", [train_byte_pairs, train_by_library])
def test_individual_digits_are_never_merged(train: object) -> None:
    tokenizer = train(["1984 1984 in 1984 " * 9], 300, individual_digits=True)  # type: ignore[operator]
    assert tokenizer.individual_digits
    assert not [token for token in tokenizer.tokens if len(token) > 1 and any(c.isdigit() for c in token)]

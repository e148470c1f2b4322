"""Learn the merges of byte-pair encoding from a text, by hand."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from datamodules.tokenizers.byte_alphabet import BYTE_CHARACTERS, to_characters
from datamodules.tokenizers.byte_pair import BytePairTokenizer, join_pair
from datamodules.tokenizers.pre_tokenization import at_boundaries, split
from datamodules.tokenizers.special_names import without_special

BYTE_TOKENS = [BYTE_CHARACTERS[byte] for byte in range(256)]
"""First 256 tokens of every trained vocabulary: token b is byte b."""

Pair = tuple[int, int]


def train_byte_pairs(
    chunks: Iterable[str],
    vocab_size: int,
    *,
    individual_digits: bool = False,
    special_tokens: Sequence[str] = (),
) -> BytePairTokenizer:
    """Train a tokenizer on a text.

    Args:
        chunks: The text, in pieces of any length.
        vocab_size: Number of tokens: the 256 bytes, one per merge, and the special tokens. It is smaller if
            no remaining pair occurs twice.
        individual_digits: Whether each digit is a piece of its own.
        special_tokens: Names that become the last tokens. Pairs are learned from the text between them.
    """
    counts: Counter[str] = Counter()
    for text in without_special(chunks, special_tokens):
        for chunk in at_boundaries(text, individual_digits=individual_digits):
            counts.update(split(chunk, individual_digits=individual_digits))
    number = vocab_size - 256 - len(special_tokens)
    merges = learn_merges({piece.encode(): n for piece, n in counts.items()}, number)
    tokens, lines = vocabulary((to_characters(left), to_characters(right)) for left, right in merges)
    return BytePairTokenizer(
        [*tokens, *special_tokens],
        lines,
        special_tokens=special_tokens,
        individual_digits=individual_digits,
    )


def vocabulary(pairs: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return the tokens (the 256 bytes and the results of the merges), and the merges."""
    pairs = list(pairs)
    return BYTE_TOKENS + [left + right for left, right in pairs], [" ".join(pair) for pair in pairs]


def learn_merges(pieces: Mapping[bytes, int], number: int) -> list[tuple[bytes, bytes]]:
    """Merge the most frequent pair of neighbours again and again; return the pairs in this order.

    Among equally frequent pairs the lexicographically greatest is merged: the left tokens' bytes decide, then
    the right tokens' bytes.

    Args:
        pieces: Number of occurrences of each piece of the text.
        number: Number of merges to learn; fewer if no remaining pair occurs twice.
    """
    words = [(list(piece), count) for piece, count in pieces.items()]
    tokens = [bytes((byte,)) for byte in range(256)]
    counts: Counter[Pair] = Counter()
    places: dict[Pair, set[int]] = {}  # words that contain or contained a pair
    for place, (word, count) in enumerate(words):
        for pair in pairwise(word):
            counts[pair] += count
            places.setdefault(pair, set()).add(place)

    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < number and counts:
        most = max(counts.values())
        if most < 2:
            break
        equal = [pair for pair, count in counts.items() if count == most]
        best = max(equal, key=lambda pair: (tokens[pair[0]], tokens[pair[1]]))
        merges.append((tokens[best[0]], tokens[best[1]]))
        tokens.append(tokens[best[0]] + tokens[best[1]])
        for place in places.pop(best):
            word, count = words[place]
            joined = join_pair(word, best, len(tokens) - 1)
            words[place] = joined, count
            for pair in pairwise(word):
                counts[pair] -= count
                if not counts[pair]:
                    del counts[pair]
            for pair in pairwise(joined):
                counts[pair] += count
                places.setdefault(pair, set()).add(place)
    return merges

"""Byte-level byte-pair encoding by hand, as in GPT-2.

Sennrich, Haddow and Birch (2016) build a vocabulary from characters: they merge the most frequent pair again
and again. Radford et al. (2019) start from the 256 bytes instead, so that no text is unknown.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from datamodules.tokenizers.byte_alphabet import BYTE_CHARACTERS, to_bytes
from datamodules.tokenizers.pre_tokenization import at_boundaries, split
from datamodules.tokenizers.tokenizer import Tokenizer

_CACHED = 1 << 16


class BytePairTokenizer(Tokenizer):
    """Splits a text into pieces and merges the bytes of each piece by a list of merges, earlier merges first.

    Args:
        tokens: The vocabulary in the byte alphabet (see `byte_alphabet`); a token's id is its index. If it
            lacks a byte, texts with that byte can't be encoded.
        merges: Pairs of tokens, each `"left right"`, in the order in which they apply.
        special_tokens: Tokens that stand for no text; their names may be any strings.
        individual_digits: Whether each digit is a piece of its own.

    Raises:
        ValueError: A token is not a string, a duplicate or not in the byte alphabet, or the vocabulary lacks
            a token that a merge needs.
    """

    implementation: ClassVar[str] = "by_hand"

    def __init__(
        self,
        tokens: Sequence[str],
        merges: Sequence[str],
        *,
        special_tokens: Iterable[str] = (),
        individual_digits: bool = False,
    ) -> None:
        ids = _ids(tokens)
        specials = list(special_tokens)
        if not all(isinstance(name, str) for name in specials):
            raise ValueError("a special token's name must be a string")
        if missing := [name for name in specials if name not in ids]:
            raise ValueError(f"the vocabulary lacks the special token {missing[0]!r}")
        self.tokens, self.merges = list(tokens), list(merges)
        self.individual_digits = individual_digits
        self.vocab_size = len(self.tokens)
        self.special_tokens = {name: ids[name] for name in specials}
        self._bytes = [
            name.encode() if name in self.special_tokens else to_bytes(name) for name in self.tokens
        ]
        self._byte_ids = {byte: ids[c] for byte, c in BYTE_CHARACTERS.items() if c in ids}
        self._known_bytes = bytes(self._byte_ids)
        self._merged = {pair: (rank, id) for rank, (pair, id) in enumerate(_merge_ids(self.merges, ids))}
        """Rank and resulting id of each pair's merge."""
        self._cache: dict[str, list[int]] = {}

    def _plain_chunks(self, chunks: Iterable[str], offset: int) -> Iterator[list[int]]:
        for chunk in at_boundaries(chunks, individual_digits=self.individual_digits):
            yield self._encode_plain(chunk, offset=offset)
            offset += len(chunk)

    def token_bytes(self, id: int) -> bytes:
        """Return the bytes of a token, see `Tokenizer.token_bytes`."""
        if not 0 <= id < self.vocab_size:
            raise self._unknown_id(id)
        return self._bytes[id]

    def to_dict(self) -> dict[str, Any]:
        """Return the tokenizer as plain data."""
        return {
            "kind": "bpe",
            "implementation": self.implementation,
            "tokens": list(self.tokens),
            "merges": list(self.merges),
            "special_tokens": list(self.special_tokens),
            "individual_digits": self.individual_digits,
        }

    def _encode_plain(self, text: str, *, offset: int = 0) -> list[int]:
        self._check_bytes(text, offset)
        ids: list[int] = []
        for piece in split(text, individual_digits=self.individual_digits):
            if piece not in self._cache:
                if len(self._cache) >= _CACHED:
                    self._cache.clear()
                self._cache[piece] = self._merge([self._byte_ids[byte] for byte in piece.encode()])
            ids += self._cache[piece]
        return ids

    def _merge(self, ids: list[int]) -> list[int]:
        """Merge one piece: apply the earliest applicable merge everywhere, until none applies."""
        none = len(self._merged), -1
        while len(ids) > 1:
            first = min(pairwise(ids), key=lambda pair: self._merged.get(pair, none))
            if first not in self._merged:
                break
            ids = join_pair(ids, first, self._merged[first][1])
        return ids

    def _check_bytes(self, text: str, offset: int) -> None:
        """Refuse a text with lone surrogates, or with bytes that the vocabulary lacks."""
        data = text.encode()
        if len(self._known_bytes) == 256:
            return
        if unknown := data.translate(None, delete=self._known_bytes):
            first = next(
                i for i, c in enumerate(text) if c.encode().translate(None, delete=self._known_bytes)
            )
            raise ValueError(
                f"the text has {text[first]!r} at position {offset + first}, but the vocabulary of "
                f"{self.vocab_size} has no token for its byte {unknown[0]:#04x}"
            )


def join_pair(ids: list[int], pair: tuple[int, int], joined: int) -> list[int]:
    """Replace each occurrence of a pair by one id, from left to right: aaa becomes (aa)a."""
    result: list[int] = []
    position = 0
    while position < len(ids):
        if position + 1 < len(ids) and (ids[position], ids[position + 1]) == pair:
            result.append(joined)
            position += 2
        else:
            result.append(ids[position])
            position += 1
    return result


def _ids(tokens: Sequence[str]) -> dict[str, int]:
    """Return the id of each token."""
    ids: dict[str, int] = {}
    for id, token in enumerate(tokens):
        if not isinstance(token, str) or not token:
            raise ValueError(f"token {id} must be a non-empty string, not {token!r}")
        if token in ids:
            raise ValueError(f"the tokens {ids[token]} and {id} are both {token!r}")
        ids[token] = id
    if not ids:
        raise ValueError("a vocabulary needs at least one token; this one is empty")
    return ids


def _merge_ids(merges: Sequence[str], ids: dict[str, int]) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield the ids of each merge's pair, and the id of its result."""
    if len(set(merges)) < len(merges):
        twice = next(merge for merge, count in Counter(merges).items() if count > 1)
        raise ValueError(f"the merge {twice!r} is listed more than once")
    for rank, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else []
        if len(parts) != 2:
            raise ValueError(f"merge {rank} must be two tokens with a space between them, not {merge!r}")
        for token in (*parts, "".join(parts)):
            if token not in ids:
                raise ValueError(f"merge {rank}, {merge!r}: the vocabulary lacks the token {token!r}")
        yield (ids[parts[0]], ids[parts[1]]), ids["".join(parts)]

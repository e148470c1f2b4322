"""One token for each character of an alphabet."""

from collections.abc import Iterable
from typing import Any

from datamodules.tokenizers.tokenizer import Tokenizer

_SHOWN = 5


class CharacterTokenizer(Tokenizer):
    """Uses characters as tokens; it can't encode a character outside its alphabet.

    Args:
        alphabet: Distinct characters; a character's id is its index.

    Raises:
        ValueError: The alphabet is empty, or contains a character twice.
    """

    def __init__(self, alphabet: str) -> None:
        if not alphabet:
            raise ValueError("a character tokenizer needs at least one character; the alphabet is empty")
        self.alphabet = alphabet
        self.vocab_size = len(alphabet)
        self.special_tokens = {}
        self._ids = {character: id for id, character in enumerate(alphabet)}
        if len(self._ids) < len(alphabet):
            twice = next(c for c in alphabet if alphabet.count(c) > 1)
            raise ValueError(f"the alphabet of a character tokenizer has {twice!r} more than once")

    @classmethod
    def of(cls, chunks: Iterable[str]) -> "CharacterTokenizer":
        """Build the tokenizer of a text's own characters, in the order of their code points."""
        seen: set[str] = set()
        for chunk in chunks:
            seen.update(chunk)
        return cls("".join(sorted(seen)))

    def token_bytes(self, id: int) -> bytes:
        """Return the UTF-8 bytes of the character."""
        if not 0 <= id < self.vocab_size:
            raise self._unknown_id(id)
        return self.alphabet[id].encode()

    def to_dict(self) -> dict[str, Any]:
        """Return the tokenizer as plain data."""
        return {"kind": "character", "alphabet": self.alphabet}

    def _encode_plain(self, text: str, *, offset: int = 0) -> list[int]:
        ids = self._ids
        try:
            return [ids[character] for character in text]
        except KeyError:
            raise self._unknown_characters(text, offset) from None

    def _unknown_characters(self, text: str, offset: int) -> ValueError:
        unknown = list(dict.fromkeys(c for c in text if c not in self._ids))
        first = offset + text.index(unknown[0])
        shown = ", ".join(map(repr, unknown[:_SHOWN])) + (" …" if len(unknown) > _SHOWN else "")
        return ValueError(
            f"the text has characters that the vocabulary lacks: {shown}, first at position {first}; "
            f"the {self.vocab_size} known characters are {self.alphabet!r}"
            if self.vocab_size <= 100
            else f"the text has characters that the vocabulary of {self.vocab_size} lacks: {shown}, "
            f"first at position {first}"
        )

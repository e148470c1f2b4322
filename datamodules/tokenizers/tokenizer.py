"""The interface of all tokenizers."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, groupby
from typing import Any

from datamodules.tokenizers.special_names import special_pattern, split_special


class Tokenizer(ABC):
    """Converts text to ids 0 … `vocab_size` − 1 and back; `decode(encode(text)) == text` for any text.

    The tokenizers of published models return the text as they normalize it, and with the space that they put
    before it (see `PublishedTokenizer`).

    A special token, such as the end of a text, stands for no characters. Encoding plain text never produces a
    special token, even if the text contains its name, unless `allow_special` is set.

    Attributes:
        vocab_size: Number of tokens, special tokens included.
        special_tokens: Id of each special token, by name.
        start_ids: Tokens to put before every text, such as `<|begin_of_text|>`; `encode` does not add them.
    """

    vocab_size: int
    special_tokens: dict[str, int]
    start_ids: tuple[int, ...] = ()

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Encode a text.

        Args:
            text: Any text without lone surrogates.
            allow_special: Encode the name of a special token as that token.

        Raises:
            ValueError: The text has characters that the vocabulary lacks.
        """
        if not (allow_special and self.special_tokens):
            return self._encode_plain(text)
        return list(chain.from_iterable(self._encode_parts([text])))

    def encode_after(self, previous: Sequence[int], text: str) -> list[int]:
        """Encode a text that follows earlier tokens, such as an answer after its prompt.

        Some tokenizers put a space before the first text, but not before a text that follows another one.

        Args:
            previous: The earlier tokens.
            text: Any text without lone surrogates; the name of a special token is plain text.

        Raises:
            ValueError: The text has characters that the vocabulary lacks.
        """
        return self._encode_plain(text)

    def encode_chunks(self, chunks: Iterable[str], *, allow_special: bool = False) -> Iterator[list[int]]:
        """Encode a text piece by piece; joined, the ids equal those of `encode`.

        It needs memory for a chunk or two, however long the text is.

        Raises:
            ValueError: The text has characters that the vocabulary lacks.
        """
        if allow_special and self.special_tokens:
            return self._encode_parts(chunks)
        return self._plain_chunks(chunks, 0)

    def _encode_parts(self, chunks: Iterable[str]) -> Iterator[list[int]]:
        """Encode special tokens and the text between them."""
        parts = split_special(chunks, self._special_pattern, max(map(len, self.special_tokens)))
        for is_special, group in groupby(parts, key=lambda part: part.is_special):
            if is_special:
                yield [self._special_id(part.text) for part in group]
                continue
            first = next(group)
            rest = (part.text for part in group)  # noqa: B031 - all parts after the first
            yield from self._plain_chunks(chain([first.text], rest), first.offset)

    def _special_id(self, text: str) -> int:
        """Return the special token of a match, which may have white space around the name."""
        return self.special_tokens[text if text in self.special_tokens else text.strip()]

    def _plain_chunks(self, chunks: Iterable[str], offset: int) -> Iterator[list[int]]:
        """Encode a text without special tokens piece by piece; errors count its characters from `offset`."""
        for chunk in chunks:
            yield self._encode_plain(chunk, offset=offset)
            offset += len(chunk)

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids; bytes that are not valid UTF-8 become U+FFFD.

        Raises:
            ValueError: An id is not in the vocabulary.
        """
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    @abstractmethod
    def token_bytes(self, id: int) -> bytes:
        """Return the UTF-8 bytes of a token, perhaps a part of a character; the name of a special token.

        Raises:
            ValueError: The id is not in the vocabulary.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the tokenizer as plain data for JSON; `tokenizer_from_dict` is the inverse."""

    @abstractmethod
    def _encode_plain(self, text: str, *, offset: int = 0) -> list[int]:
        """Encode a text without special tokens; errors count its characters from `offset`."""

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        return special_pattern(self.special_tokens)

    def _unknown_id(self, id: int) -> ValueError:
        return ValueError(f"token {id} is not in the vocabulary, which has the ids 0 … {self.vocab_size - 1}")

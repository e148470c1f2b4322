"""The interface of all tokenizers."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any


class Tokenizer(ABC):
    """Converts text to ids 0 … `vocab_size` − 1 and back; `decode(encode(text)) == text` for any text.

    A special token, such as the end of a text, stands for no characters. Encoding plain text never produces a
    special token, even if the text contains its name, unless `allow_special` is set.

    Attributes:
        vocab_size: Number of tokens, special tokens included.
        special_tokens: Id of each special token, by name.
    """

    vocab_size: int
    special_tokens: dict[str, int]

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
        ids: list[int] = []
        position = 0
        for match in self._special_pattern.finditer(text):
            ids += self._encode_plain(text[position : match.start()], offset=position)
            ids.append(self.special_tokens[match.group()])
            position = match.end()
        return ids + self._encode_plain(text[position:], offset=position)

    def encode_chunks(self, chunks: Iterable[str]) -> Iterator[list[int]]:
        """Encode a text piece by piece; joined, the ids equal those of `encode`.

        It needs memory for a chunk or two, however long the text is.

        Raises:
            ValueError: The text has characters that the vocabulary lacks.
        """
        offset = 0
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
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)))

    def _unknown_id(self, id: int) -> ValueError:
        return ValueError(f"token {id} is not in the vocabulary, which has the ids 0 … {self.vocab_size - 1}")

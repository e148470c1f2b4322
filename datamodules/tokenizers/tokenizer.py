"""What every tokenizer can do: text to ids and back, whole or in a stream, and itself as plain data."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any


class Tokenizer(ABC):
    """Turns text into ids 0 … `vocab_size` − 1 and back; `decode(encode(text)) == text` for any text.

    A special token, such as the end of a text, stands for no characters. Encoding never produces one from
    plain text, even where its name is written there, unless it is asked to.

    Attributes:
        vocab_size: Number of tokens, special ones included.
        special_tokens: Id of each special token, by name.
    """

    vocab_size: int
    special_tokens: dict[str, int]

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Ids of a text.

        Args:
            text: Any text without lone surrogates.
            allow_special: Take the name of a special token, where it stands in the text, for that token.

        Raises:
            ValueError: The text has characters that this tokenizer doesn't know.
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
        """Ids of a text that comes in pieces, in pieces: joined, what `encode` gives for the whole.

        Needs memory for a chunk or two, however long the text is.

        Raises:
            ValueError: As `encode`.
        """
        offset = 0
        for chunk in chunks:
            yield self._encode_plain(chunk, offset=offset)
            offset += len(chunk)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; bytes that are no valid UTF-8 become U+FFFD.

        Raises:
            ValueError: An id is not in the vocabulary.
        """
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    @abstractmethod
    def token_bytes(self, id: int) -> bytes:
        """The UTF-8 bytes that a token stands for, perhaps only a part of a character's.

        A special token gives its name.

        Raises:
            ValueError: The id is not in the vocabulary.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The whole tokenizer as plain data that JSON can hold; `tokenizer_from_dict` is the inverse."""

    @abstractmethod
    def _encode_plain(self, text: str, *, offset: int = 0) -> list[int]:
        """Ids of a text in which nothing is special.

        Args:
            text: The text.
            offset: Where it starts within the text that errors speak of.
        """

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)))

    def _unknown_id(self, id: int) -> ValueError:
        return ValueError(f"token {id} is not in the vocabulary; its ids are 0 … {self.vocab_size - 1}")

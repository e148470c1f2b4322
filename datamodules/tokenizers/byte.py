"""One token for each of the 256 bytes; it encodes every text."""

from typing import Any

from datamodules.tokenizers.tokenizer import Tokenizer


class ByteTokenizer(Tokenizer):
    """Uses a text's UTF-8 bytes as tokens."""

    def __init__(self) -> None:
        self.vocab_size = 256
        self.special_tokens = {}

    def token_bytes(self, id: int) -> bytes:
        """Return the byte."""
        if not 0 <= id < 256:
            raise self._unknown_id(id)
        return bytes((id,))

    def to_dict(self) -> dict[str, Any]:
        """Return the tokenizer as plain data."""
        return {"kind": "byte"}

    def _encode_plain(self, text: str, *, offset: int = 0) -> list[int]:
        return list(text.encode())

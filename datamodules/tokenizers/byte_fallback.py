"""Tokenizers as Llama 2 and Mistral publish them: byte pairs of characters, run by the library `tokenizers`.

`▁` stands for a space, and most of them put one before the text too. A character that the vocabulary lacks
becomes the tokens of its UTF-8 bytes, `<0x00>` … `<0xFF>` (Kudo and Richardson, 2018, SentencePiece).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

from datamodules.tokenizers.pre_tokenization import regrouped
from datamodules.tokenizers.published import PublishedTokenizer

_BYTES = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
_PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, _REPLACE]}
_SCHEMES = ("always", "first", "never")
_WORD_END = re.compile(r"(?s:.*)[^ ▁](?=[ ▁])")


class ByteFallbackTokenizer(PublishedTokenizer):
    """A tokenizer with byte fallback; see `PublishedTokenizer`.

    Decoding returns `▁` as a space.
    """

    kind: ClassVar[str] = "byte_fallback"

    def _encode_plain(self, text: str, *, offset: int = 0) -> list[int]:
        inside = offset > 0 and _scheme(self._definition) == "first"
        return self._encode_inside(text) if inside else super()._encode_plain(text)

    def _plain_chunks(self, chunks: Iterable[str], offset: int) -> Iterator[list[int]]:
        def last_word_end(text: str) -> int:
            found = None if self._joins_words else _WORD_END.match(text)
            return found.end() if found else 0

        texts = regrouped(chunks, last_word_end)
        yield self._encode_plain(next(texts, ""), offset=offset)
        for text in texts:
            yield self._encode_inside(text)

    @cached_property
    def _joins_words(self) -> bool:
        """Whether a merge reaches over the end of a word, so that a text can't be cut there."""
        merges = self._definition["model"]["merges"]
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
        return any(right.startswith("▁") and not left.endswith("▁") for left, right in pairs)

    @cached_property
    def _inside(self) -> Any:
        from tokenizers import Tokenizer, normalizers

        inside = Tokenizer(self._backend.model)
        inside.normalizer = normalizers.Replace(" ", "▁")
        return inside

    @staticmethod
    def _name_bytes(name: str) -> bytes:
        return _BYTES[name] if name in _BYTES else name.replace("▁", " ").encode()

    @staticmethod
    def _check(definition: Mapping[str, Any]) -> None:
        """Check that all settings are supported, and that every text has tokens."""
        _scheme(definition)
        model = definition["model"]
        if model.get("ignore_merges"):
            raise ValueError("model.ignore_merges = True isn't implemented with model.byte_fallback = True")
        for name in ("▁", *_BYTES):
            if name not in model["vocab"]:
                raise ValueError(f"model.byte_fallback = True needs the token {name!r} in the vocabulary")


def _scheme(definition: Mapping[str, Any]) -> str:
    """Return which parts of a text get a space before them: "always", "first" or "never".

    The parts are those between special tokens.

    Raises:
        ValueError: The settings are not supported.
    """
    normalizer, pre = definition["normalizer"], definition["pre_tokenizer"]
    if normalizer == _PREPEND and pre is None:
        return "always"
    for scheme in _SCHEMES:
        metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
        if normalizer is None and pre == metaspace:
            return scheme
    raise ValueError(
        f"model.byte_fallback = True isn't implemented with normalizer = {normalizer} and pre_tokenizer = "
        f"{pre}, only with 'Prepend' and 'Replace', or with 'Metaspace' without a split"
    )

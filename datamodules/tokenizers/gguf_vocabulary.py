"""Read the byte-level vocabulary in the metadata of a GGUF file."""

from collections.abc import Mapping
from typing import Any

from datamodules.tokenizers.library import LibraryBytePairTokenizer

_PRE_TOKENIZATIONS = {"gpt-2": False, "smollm": True}
"""Whether each digit is a piece of its own, by the name of the pre-tokenization."""
_SPECIAL_TYPES = (3, 4)
"""Values of `token_type`: control and user-defined. An ordinary token has 1."""


def tokenizer_of_gguf(entries: Mapping[str, Any]) -> LibraryBytePairTokenizer:
    """Build the tokenizer of a model in a GGUF file.

    `entries` are those under `tokenizer.`, without that prefix.

    Raises:
        ValueError: An entry is missing or malformed, or this kind of vocabulary is not implemented.
    """
    _require(entries, "ggml.model", ("gpt2",))
    _require(entries, "ggml.pre", tuple(_PRE_TOKENIZATIONS))
    for key in ("ggml.add_bos_token", "ggml.add_eos_token", "ggml.add_space_prefix"):
        _require(entries, key, (False, None))
    tokens, merges, types = (entries.get(key) for key in ("ggml.tokens", "ggml.merges", "ggml.token_type"))
    if not isinstance(tokens, list) or not isinstance(merges, list) or not isinstance(types, list):
        raise ValueError("the vocabulary lacks one of tokenizer.ggml.tokens, .merges and .token_type")
    if len(types) != len(tokens):
        raise ValueError(f"the vocabulary has {len(tokens)} tokens but {len(types)} token types")
    special = [token for token, kind in zip(tokens, types, strict=True) if kind in _SPECIAL_TYPES]
    digits = _PRE_TOKENIZATIONS[entries["ggml.pre"]]
    return LibraryBytePairTokenizer(tokens, merges, special_tokens=special, individual_digits=digits)


def _require(entries: Mapping[str, Any], key: str, allowed: tuple[Any, ...]) -> None:
    value = entries.get(key)
    if value not in allowed:
        words = ", ".join(repr(choice) for choice in allowed if choice is not None)
        raise ValueError(f"tokenizer.{key} = {value!r} isn't implemented, only {words}")

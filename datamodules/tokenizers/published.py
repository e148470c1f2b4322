"""Byte-level tokenizers of published models, run by the library `tokenizers`.

They have features that the byte-pair encoding by hand lacks: other patterns than GPT-2's, a space before the
text, normalization, merges that are skipped for whole words, and white space around special tokens.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from datamodules.tokenizers.byte_alphabet import to_bytes
from datamodules.tokenizers.pre_tokenization import regrouped
from datamodules.tokenizers.tokenizer import Tokenizer

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace("{1,3}", "")
_PATTERNS = (_LLAMA3, _QWEN2)
"""Known patterns of pieces. In each, a piece ends where white space follows a letter or digit."""
_PIECE_END = re.compile(r"(?s:.*)[^\W_](?=\s)")
_PIECE_END_BEFORE_SPACE = re.compile(r"(?s:.*)[^\W_](?= )")
"""For a tokenizer that adds a space before every text that does not start with one."""
_WHITE = r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*"
"""White space as in Unicode, which the library counts as part of a token; Python's `\\s` has four more."""


class PublishedTokenizer(Tokenizer):
    """A tokenizer of the library; see `Tokenizer` for the methods.

    Decoding returns the normalized text, with the space before it if there is one.

    Args:
        definition: The entries `model`, `normalizer`, `pre_tokenizer` and `added_tokens` of a tokenizer.json,
            and `start`, the names of the tokens before every text.

    Raises:
        ValueError: A setting is not implemented or malformed, or tokens lack an id.
    """

    kind: ClassVar[str] = "published"

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self._definition = dict(definition)
        self._check(definition)
        names = names_by_id(definition["model"]["vocab"], definition["added_tokens"])
        self.vocab_size = len(names)
        self.special_tokens = {token["content"]: token["id"] for token in definition["added_tokens"]}
        ids = {name: id for id, name in enumerate(names)}
        self._added = {token["id"]: token for token in definition["added_tokens"]}
        self.start_ids = tuple(ids[name] for name in definition["start"])
        self._bytes = [
            name.encode() if name in self.special_tokens else self._name_bytes(name) for name in names
        ]

    def encode_after(self, previous: Sequence[int], text: str) -> list[int]:
        """Encode a text that follows earlier tokens, see `Tokenizer.encode_after`."""
        if not previous or tuple(previous) == self.start_ids:
            return self._encode_plain(text)
        special = self._added.get(previous[-1])
        if special is None:
            return self._encode_inside(text)
        if special.get("rstrip"):  # the white space is a part of the special token
            text = re.sub(rf"\A{_WHITE}", "", text)
        return self._encode_plain(text, offset=1)

    def token_bytes(self, id: int) -> bytes:
        """Return the bytes of a token, see `Tokenizer.token_bytes`."""
        if not 0 <= id < self.vocab_size:
            raise self._unknown_id(id)
        return self._bytes[id]

    def to_dict(self) -> dict[str, Any]:
        """Return the tokenizer as plain data."""
        return {"kind": self.kind, "definition": self._definition}

    def _encode_plain(self, text: str, *, offset: int = 0) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids if text else []

    def _encode_inside(self, text: str) -> list[int]:
        """Encode a text that follows another one, so that no space is put before it."""
        return self._inside.encode(text, add_special_tokens=False).ids if text else []

    def _plain_chunks(self, chunks: Iterable[str], offset: int) -> Iterator[list[int]]:
        last_step = pre_tokenizer_steps(self._definition["pre_tokenizer"])[-1]
        pattern = _PIECE_END_BEFORE_SPACE if last_step.get("add_prefix_space", True) else _PIECE_END

        def last_piece_end(text: str) -> int:
            found = pattern.match(text)
            return found.end() if found else 0

        for text in regrouped(chunks, last_piece_end):
            yield self._encode_plain(text)

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        tokens = sorted(self._definition["added_tokens"], key=lambda token: -len(token["content"]))
        return re.compile(
            "|".join(
                f"{_WHITE if token.get('lstrip') else ''}{re.escape(token['content'])}"
                f"{_WHITE if token.get('rstrip') else ''}"
                for token in tokens
            )
        )

    @cached_property
    def _backend(self) -> Any:
        import json

        from tokenizers import Tokenizer as LibraryTokenizer

        # Without added tokens: their names in a text are text, unless they are allowed.
        parts = {key: self._definition[key] for key in ("model", "normalizer", "pre_tokenizer")}
        try:
            return LibraryTokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], **parts}))
        except Exception as error:  # the library has no narrower type
            raise ValueError(f"the library tokenizers refuses it: {error}") from error

    @cached_property
    def _inside(self) -> Any:
        from tokenizers import Tokenizer as LibraryTokenizer
        from tokenizers import pre_tokenizers

        steps = pre_tokenizer_steps(self._definition["pre_tokenizer"])
        if len(steps) > 1 or not steps[0].get("add_prefix_space", True):
            return self._backend  # after another step, every piece of a text gets a space
        inside = LibraryTokenizer(self._backend.model)
        inside.normalizer = self._backend.normalizer
        inside.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return inside

    @staticmethod
    def _name_bytes(name: str) -> bytes:
        return to_bytes(name)

    @staticmethod
    def _check(definition: Mapping[str, Any]) -> None:
        """Check that all settings are supported, and that a text can be encoded in chunks."""
        normalizer = definition["normalizer"]
        if normalizer is not None and normalizer["type"] != "NFC":
            raise ValueError(f"normalizer = {normalizer} isn't implemented, only 'NFC'")
        steps = pre_tokenizer_steps(definition["pre_tokenizer"])
        for step in steps[:-1]:
            if step["type"] == "Split":
                pattern = step["pattern"].get("Regex")
                if pattern not in _PATTERNS or step["behavior"] != "Isolated" or step.get("invert"):
                    raise ValueError(
                        f"pre_tokenizer 'Split' with the pattern {step['pattern']} isn't implemented"
                    )
            elif step["type"] != "Digits" or step["individual_digits"] is not True:
                raise ValueError(f"pre_tokenizer {step} isn't implemented")
        if not steps[-1].get("use_regex", True) and "Split" not in [step["type"] for step in steps]:
            raise ValueError("pre_tokenizer 'ByteLevel' with use_regex false needs a 'Split' before it")


def names_by_id(vocab: Mapping[str, int], added: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of all tokens in the order of their ids: the vocabulary and the added tokens.

    Raises:
        ValueError: A token has two ids, or the ids are not 0, 1, 2 and so on.
    """
    ids = dict(vocab)
    for token in added:
        if ids.setdefault(token["content"], token["id"]) != token["id"]:
            raise ValueError(f"the added token {token['content']!r} has another id in the vocabulary")
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"the {len(ids)} tokens must have the ids 0 … {len(ids) - 1}, each once")
    return sorted(ids, key=ids.__getitem__)


def pre_tokenizer_steps(pre_tokenizer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of a pre-tokenizer.

    Raises:
        ValueError: A step is not supported, or the last step is not byte-level.
    """
    nested = pre_tokenizer["type"] == "Sequence"
    steps = list(pre_tokenizer["pretokenizers"] if nested else [pre_tokenizer])
    names = [step["type"] for step in steps]
    if names[-1:] != ["ByteLevel"] or not {"Split", "Digits", "ByteLevel"}.issuperset(names):
        raise ValueError(
            f"pre_tokenizer {names} isn't implemented, only 'ByteLevel', and 'Split' or 'Digits' before it"
        )
    return steps

"""Build a tokenizer from the plain data in a checkpoint, a run directory or a prepared corpus."""

from collections.abc import Callable, Mapping
from typing import Any

from datamodules.tokenizers.byte import ByteTokenizer
from datamodules.tokenizers.byte_fallback import ByteFallbackTokenizer
from datamodules.tokenizers.byte_pair import BytePairTokenizer
from datamodules.tokenizers.character import CharacterTokenizer
from datamodules.tokenizers.library import LibraryBytePairTokenizer
from datamodules.tokenizers.published import PublishedTokenizer
from datamodules.tokenizers.tokenizer import Tokenizer

_IMPLEMENTATIONS: dict[str, type[BytePairTokenizer]] = {
    kind.implementation: kind for kind in (LibraryBytePairTokenizer, BytePairTokenizer)
}
_BUILDERS: dict[str, Callable[..., Tokenizer]] = {
    "character": CharacterTokenizer,
    "byte": ByteTokenizer,
    "published": PublishedTokenizer,
    "bpe": lambda implementation, **values: _IMPLEMENTATIONS[implementation](**values),
    "byte_fallback": ByteFallbackTokenizer,
}
_FIELDS: dict[str, dict[str, type]] = {
    "character": {"alphabet": str},
    "byte": {},
    "published": {"definition": dict},
    "bpe": {
        "implementation": str,
        "tokens": list,
        "merges": list,
        "special_tokens": list,
        "individual_digits": bool,
    },
    "byte_fallback": {"definition": dict},
}
"""Names and types of the data of each kind."""


def tokenizer_from_dict(values: Mapping[str, Any]) -> Tokenizer:
    """Invert `Tokenizer.to_dict`.

    Raises:
        ValueError: `to_dict` can't have returned these values.
    """
    values = dict(values)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ValueError(f"tokenizer kind {kind!r} is unknown; known kinds: {', '.join(_FIELDS)}")
    wanted = _FIELDS[kind]
    if values.keys() != wanted.keys():
        raise ValueError(f"a {kind} tokenizer's data has {sorted(values)}, expected {sorted(wanted)}")
    for name, type_ in wanted.items():
        if not isinstance(values[name], type_):
            found = type(values[name]).__name__
            raise ValueError(f"a {kind} tokenizer's {name} must be a {type_.__name__}, not {found}")
    if kind == "bpe" and values["implementation"] not in _IMPLEMENTATIONS:
        raise ValueError(
            f"a bpe tokenizer's implementation {values['implementation']!r} is unknown; "
            f"known implementations: {', '.join(_IMPLEMENTATIONS)}"
        )
    return _BUILDERS[kind](**values)

"""A tokenizer from the plain data that a checkpoint, a run or a cache keeps of it."""

from collections.abc import Mapping
from typing import Any

from datamodules.tokenizers.base import Tokenizer
from datamodules.tokenizers.byte import ByteTokenizer
from datamodules.tokenizers.character import CharacterTokenizer

_KINDS: dict[str, dict[str, type]] = {"character": {"alphabet": str}, "byte": {}}
"""What each kind's data holds beside its name."""


def tokenizer_from_dict(values: Mapping[str, Any]) -> Tokenizer:
    """The inverse of ``Tokenizer.to_dict``.

    Raises:
        ValueError: The values are none that ``to_dict`` gives.
    """
    values = dict(values)
    kind = values.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(f"a tokenizer of the kind {kind!r} is unknown; there are {', '.join(_KINDS)}")
    wanted = _KINDS[kind]
    if values.keys() != wanted.keys():
        raise ValueError(f"a {kind} tokenizer's data has {sorted(values)}, expected {sorted(wanted)}")
    for name, type_ in wanted.items():
        if not isinstance(values[name], type_):
            found = type(values[name]).__name__
            raise ValueError(f"a {kind} tokenizer's {name} must be a {type_.__name__}, not {found}")
    match kind:
        case "character":
            return CharacterTokenizer(**values)
        case _:
            return ByteTokenizer()

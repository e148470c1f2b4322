"""Check plain values against a schema, and report errors that a person can act on.

A schema is a dataclass. The type hint of a field gives the type; `datamodules.setting.setting` adds the help,
the choices and the bounds. The bounds of a list apply to each element.
"""

import dataclasses
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from experiments.config import registry
from experiments.config.messages import cut, nearest, show
from experiments.config.moved_keys import hint as moved_to
from experiments.config.sources import SECTIONS, Layer
from experiments.errors import UserError

LARGEST_INTEGER = 2**31 - 1
"""Largest absolute value of an integer whose setting states no bound."""
LARGEST_NUMBER = 1e30
"""Largest absolute value of a number whose setting states no bound; single precision ends at 3e38."""
LONGEST_LIST = 1000
LONGEST_NAME = 255  # bytes of the name of a file, on usual file systems
LONGEST_TEXT = 10_000

_IMPORT_KEYS = ("_target_", "_recursive_", "_partial_", "class_path", "init_args")


def build(schema: type, values: Mapping[str, Any], path: str, layer: Layer) -> Any:
    """Build an instance of the schema from plain values.

    `path` is the dotted path of the section, and `layer` the origin of each value, for error messages.

    Raises:
        UserError: A key is unknown or missing, or a value has the wrong type or range.
    """
    fields = {f.name: f for f in dataclasses.fields(schema)}
    hints = _hints(schema)
    checked = {}
    for key, value in values.items():
        full = f"{path}.{key}" if path else key
        if key not in fields:
            raise unknown_key(layer, full, fields)
        checked[key] = _value(hints[key], value, fields[key].metadata, full, layer)
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in checked:
            raise UserError(f"{path}.{name} is missing: {f.metadata.get('help', '')}")
    try:
        return schema(**checked)
    except ValueError as error:
        raise UserError(f"{path or 'config'} ({layer.origin(path)}): {cut(str(error), 500)}") from None


@cache
def _hints(schema: type) -> dict[str, Any]:
    return typing.get_type_hints(schema)


def _value(hint: Any, value: Any, metadata: Mapping[str, Any], path: str, layer: Layer) -> Any:
    """Check one value against its type hint, bounds and choices."""
    if dataclasses.is_dataclass(hint):
        return build(
            typing.cast(type, hint), as_mapping({} if value is None else value, path, layer), path, layer
        )
    converted = _convert(hint, value)
    if isinstance(converted, str):
        converted = _text(converted, metadata, path, layer)
    if isinstance(converted, list) and len(converted) > LONGEST_LIST:
        raise UserError(f"{path} ({layer.origin(path)}) has more than {LONGEST_LIST} entries")
    if converted is _NO:
        raise UserError(
            f"{path} = {show(value)} ({layer.origin(path)}) {_fault(hint, value)}; "
            f"allowed: {allowed_values(hint, metadata)}{moved_to(path, value)}"
            f"{_try_each(path, value)}"
        )
    for item in converted if isinstance(converted, list) else [converted]:
        if not _in_range(item, metadata):
            raise UserError(
                f"{path} = {show(value)} ({layer.origin(path)}) is not allowed"
                f"{nearest(str(item), metadata['choices']) if 'choices' in metadata else ''}; "
                f"allowed: {_allowed(hint, metadata, converted)}"
            )
    return converted


def _fault(hint: Any, value: Any) -> str:
    """Say what is wrong: a word that is not among the choices, or the type."""
    choices = [
        choice
        for part in (hint, *typing.get_args(hint))
        if typing.get_origin(part) is Literal
        for choice in typing.get_args(part)
    ]
    words = value if isinstance(value, list) else [value]
    unknown = next((word for word in words if isinstance(word, str) and word not in choices), None)
    if not choices or unknown is None:
        return "is of the wrong type"
    return f"is not allowed{nearest(unknown, choices)}"


def _try_each(path: str, value: Any) -> str:
    """Say how to try each value of a list that was given to a setting with one value."""
    if not isinstance(value, list) or path.partition(".")[0] not in (*SECTIONS, "trainer"):
        return ""
    return f"; to try each value: sweep.{path}={show(value).replace(', ', ',')}"


_NO = object()


def _convert(hint: Any, value: Any) -> Any:
    """Convert a value to the hinted type, or return `_NO`; the only conversion of types is int to float."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        results = (_convert(option, value) for option in typing.get_args(hint))
        return next((r for r in results if r is not _NO), _NO)
    if origin is Literal:
        return value if any(value == a and type(value) is type(a) for a in typing.get_args(hint)) else _NO
    if origin is list:
        if not isinstance(value, (list, tuple)):
            return _NO
        items = [_convert(typing.get_args(hint)[0], item) for item in value]
        return _NO if any(item is _NO for item in items) else items
    if hint is type(None):
        return None if value is None else _NO
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if value.bit_length() < 1000 else _NO
    if hint is float:
        return value if isinstance(value, float) and math.isfinite(value) else _NO
    return value if type(value) is hint else _NO


def _text(value: str, metadata: Mapping[str, Any], path: str, layer: Layer) -> str:
    """Check a text that is shown, saved and, for a path, opened; `~` in a path becomes the home."""
    where = f"{path} = {show(value)} ({layer.origin(path)})"
    if len(value) > LONGEST_TEXT:
        raise UserError(f"{where} is longer than {LONGEST_TEXT} characters")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(f"{where} has a character that no file or terminal can hold")
    if not metadata.get("is_path"):
        return value
    if not value.strip():
        raise UserError(f"{where}: the path is empty; write the folder . to mean the current one")
    if not value.isprintable():
        raise UserError(f"{where}: the path has a control character")
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in Path(value).parts):
        raise UserError(f"{where}: the name of a file or folder has at most {LONGEST_NAME} bytes")
    try:
        return str(Path(value).expanduser()) if value.startswith("~") else value
    except RuntimeError:
        user = Path(value).parts[0]
        raise UserError(
            f"{where}: {user} has no home here; write ./{user} for a folder of that name"
        ) from None


def _in_range(value: Any, metadata: Mapping[str, Any]) -> bool:
    if value is None:
        return True
    if "choices" in metadata and value not in metadata["choices"]:
        return False
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return True
    largest = LARGEST_INTEGER if isinstance(value, int) else LARGEST_NUMBER
    return not (
        value < metadata.get("min", -largest)
        or value > metadata.get("max", largest)
        or ("above" in metadata and value <= metadata["above"])
        or ("below" in metadata and value >= metadata["below"])
    )


def allowed_values(hint: Any, metadata: Mapping[str, Any]) -> str:
    """Describe in words what a field accepts, such as `an integer ≥ 1`."""
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}

    def name(h: Any) -> str:
        origin = typing.get_origin(h)
        if origin in (typing.Union, types.UnionType):
            return " or ".join(name(a) for a in typing.get_args(h) if a is not type(None))
        if origin is Literal:
            return ", ".join(map(str, typing.get_args(h)))
        if origin is list:
            return f"a list of {name(typing.get_args(h)[0]).removeprefix('an ').removeprefix('a ')}s"
        return words.get(h, getattr(h, "__name__", str(h)))

    null = " or null" if type(None) in typing.get_args(hint) else ""
    if "choices" in metadata:
        return ", ".join(map(str, metadata["choices"])) + null
    signs = {"min": "≥", "above": ">", "max": "≤", "below": "<"}
    bounds = [f"{sign} {metadata[key]}" for key, sign in signs.items() if key in metadata]
    return name(hint) + (f" {' and '.join(bounds)}" if bounds else "") + null


def _allowed(hint: Any, metadata: Mapping[str, Any], value: Any) -> str:
    """Describe what a field accepts; name the general bound if only this bound excludes the value."""
    allowed = allowed_values(hint, metadata)
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, int) and abs(item) > LARGEST_INTEGER for item in items):
        return f"{allowed}, at most {metadata.get('max', LARGEST_INTEGER)}"
    if any(isinstance(item, float) and abs(item) > LARGEST_NUMBER for item in items):
        return f"{allowed}, at most {metadata.get('max', LARGEST_NUMBER):g}"
    return allowed


def as_mapping(value: Any, path: str, layer: Layer) -> dict[str, Any]:
    """Return the value if it is a mapping.

    Raises:
        UserError: It is something else.
    """
    if not isinstance(value, Mapping):
        text = f"{path} = {show(value)} ({layer.origin(path)}) must be a mapping of keys to values"
        if path in registry.CATALOG and str(value) in registry.CATALOG[path]:
            text += f"; set {path}.name={value}"
        raise UserError(text)
    return typing.cast(dict[str, Any], value)


def mapping_or_none(layer: Layer, key: str) -> dict[str, Any]:
    """Return the mapping under a root key; empty if it is null or missing.

    Raises:
        UserError: It is something else.
    """
    value = layer.values.get(key)
    return {} if value is None else as_mapping(value, key, layer)


def unknown_key(layer: Layer, path: str, known: Iterable[str]) -> UserError:
    """Make the error for a key that a section does not have."""
    section, _, key = path.rpartition(".")
    where = f"unknown key {cut(path)} ({layer.origin(path)})"
    if key in _IMPORT_KEYS:
        return UserError(
            f"{where}: a config names pieces by short name, such as model.name, and never imports code"
        )
    if moved := moved_to(path):
        return UserError(f"{where}{moved}")
    if near := nearest(key, known):
        return UserError(f"{where}{near}; --help lists all keys")
    inside = f" in {section}" if section else ""
    return UserError(f"{where}; allowed{inside}: {', '.join(sorted(known))}")

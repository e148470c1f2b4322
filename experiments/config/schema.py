"""Checking plain values against the dataclasses that are their schema, with errors a person can act on.

A field's type hint says what it takes; its metadata says the rest: `help`, `choices`, and the bounds
`min` and `max` (inclusive), `above` and `below` (exclusive), which hold for each element of a list.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from experiments.config.registry import nearest
from experiments.config.sources import Layer
from experiments.errors import UserError

_IMPORT_KEYS = ("_target_", "_recursive_", "_partial_", "class_path", "init_args")


def build(schema: type, values: Mapping[str, Any], path: str, layer: Layer) -> Any:
    """An instance of the schema from plain values.

    Args:
        schema: The dataclass.
        values: The section's values, without its `name`.
        path: The section's dotted path, empty for the root.
        layer: Where the values were set, for the errors.

    Raises:
        UserError: A key, type or value that the schema doesn't allow, or a required one that is missing.
    """
    fields = {f.name: f for f in dataclasses.fields(schema)}
    hints = typing.get_type_hints(schema)
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
        raise UserError(f"{path or 'config'} ({layer.origin(path)}): {error}") from None


def _value(hint: Any, value: Any, metadata: Mapping[str, Any], path: str, layer: Layer) -> Any:
    """One value against its type hint and its field's range and choices."""
    if dataclasses.is_dataclass(hint):
        return build(
            typing.cast(type, hint), as_mapping({} if value is None else value, path, layer), path, layer
        )
    converted = _convert(hint, value)
    if converted is _NO:
        raise UserError(
            f"{path} = {_show(value)} ({layer.origin(path)}) is of the wrong type; "
            f"allowed: {_allowed(hint, metadata)}"
        )
    for item in converted if isinstance(converted, list) else [converted]:
        if not _in_range(item, metadata):
            raise UserError(
                f"{path} = {_show(value)} ({layer.origin(path)}) is not allowed"
                f"{nearest(str(item), metadata['choices']) if 'choices' in metadata else ''}; "
                f"allowed: {_allowed(hint, metadata)}"
            )
    return converted


_NO = object()


def _convert(hint: Any, value: Any) -> Any:
    """The value as the hinted type, or `_NO`. Nothing is guessed: only an int passes as a float."""
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
        return float(value)
    if hint is float:
        return value if isinstance(value, float) and math.isfinite(value) else _NO
    return value if type(value) is hint else _NO


def _in_range(value: Any, metadata: Mapping[str, Any]) -> bool:
    if value is None:
        return True
    if "choices" in metadata and value not in metadata["choices"]:
        return False
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return True
    return not (
        ("min" in metadata and value < metadata["min"])
        or ("max" in metadata and value > metadata["max"])
        or ("above" in metadata and value <= metadata["above"])
        or ("below" in metadata and value >= metadata["below"])
    )


def _allowed(hint: Any, metadata: Mapping[str, Any]) -> str:
    """What a field takes, in words: `an integer ≥ 1`."""
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a string", type(None): "null"}

    def name(h: Any) -> str:
        origin = typing.get_origin(h)
        if origin in (typing.Union, types.UnionType):
            return " or ".join(name(a) for a in typing.get_args(h))
        if origin is Literal:
            return " | ".join(map(str, typing.get_args(h)))
        if origin is list:
            return f"a list of {name(typing.get_args(h)[0]).removeprefix('an ').removeprefix('a ')}s"
        return words.get(h, getattr(h, "__name__", str(h)))

    if "choices" in metadata:
        null = " or null" if type(None) in typing.get_args(hint) else ""
        return ", ".join(map(str, metadata["choices"])) + null
    signs = {"min": "≥", "above": ">", "max": "≤", "below": "<"}
    bounds = [f"{sign} {metadata[key]}" for key, sign in signs.items() if key in metadata]
    return name(hint) + (f" {' and '.join(bounds)}" if bounds else "")


def as_mapping(value: Any, path: str, layer: Layer) -> dict[str, Any]:
    """The value, if it is a mapping; else a UserError that says it must be one."""
    if not isinstance(value, Mapping):
        raise UserError(f"{path} = {_show(value)} ({layer.origin(path)}) must be a mapping of keys to values")
    return typing.cast(dict[str, Any], value)


def mapping_or_none(layer: Layer, key: str) -> dict[str, Any]:
    """The mapping under a key of the root; empty where it is null or missing.

    Raises:
        UserError: It is something else.
    """
    value = layer.values.get(key)
    return {} if value is None else as_mapping(value, key, layer)


def unknown_key(layer: Layer, path: str, known: Iterable[str]) -> UserError:
    """The error for a key that a section doesn't have."""
    section, _, key = path.rpartition(".")
    where = f"unknown key {path} ({layer.origin(path)})"
    if key in _IMPORT_KEYS:
        return UserError(
            f"{where}: a config names pieces by short name, such as model.name, and never imports code"
        )
    inside = f" in {section}" if section else ""
    return UserError(f"{where}{nearest(key, known)}; allowed{inside}: {', '.join(sorted(known))}")


def _show(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def describe(schema: type, prefix: str = "") -> Sequence[tuple[str, str, str, str]]:
    """One row a field for `--help`: key, what it takes, default, help."""
    rows: list[tuple[str, str, str, str]] = []
    hints = typing.get_type_hints(schema)
    for f in dataclasses.fields(schema):
        if dataclasses.is_dataclass(hints[f.name]):
            rows.extend(describe(typing.cast(type, hints[f.name]), f"{prefix}{f.name}."))
            continue
        if f.default is not dataclasses.MISSING:
            default = _show(f.default)
        elif f.default_factory is not dataclasses.MISSING:
            default = _show(f.default_factory())
        else:
            default = "required"
        rows.append(
            (prefix + f.name, _allowed(hints[f.name], f.metadata), default, str(f.metadata.get("help", "")))
        )
    return rows

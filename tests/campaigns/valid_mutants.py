"""Mutated configs whose values stay within their schemas, so that most of them are valid."""

import copy
import dataclasses
import math
import random
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from experiments.config import registry
from experiments.config.root import RootConfig
from experiments.config.schema import LARGEST_INTEGER, LARGEST_NUMBER
from experiments.config.sources import SECTIONS
from experiments.config.trainer import TrainerConfig

Place = tuple[dict[str, Any], str, Any, Mapping[str, Any]]
"""The mapping and the key of a setting, its type hint and its limits."""
_KEEP = object()


def mutate(
    plain: Mapping[str, Any], draw: random.Random, *, near: bool, keep: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a copy of a plain config with one to three other values.

    Args:
        plain: A config with all its settings.
        draw: The random numbers.
        near: Draw numbers near the present ones, so that a run stays small; otherwise from the whole range.
        keep: Settings that keep their values.
    """
    mutant = copy.deepcopy(dict(plain))
    places = [place for place in _places(mutant) if place[1] not in keep]
    for mapping, key, hint, limits in draw.sample(places, draw.randint(1, 3)):
        value = _value(hint, limits, mapping[key], draw, near)
        if value is not _KEEP:
            mapping[key] = value
    if draw.random() < 0.2:
        kind = draw.choice(("optimizer", "schedule"))
        mutant[kind] = {"name": draw.choice(sorted(registry.CATALOG[kind]))}
    return mutant


def _places(plain: dict[str, Any]) -> Iterator[Place]:
    yield from _fields(RootConfig, plain)
    yield from _fields(TrainerConfig, plain.get("trainer") or {})
    for kind in SECTIONS:
        section = plain.get(kind) or {}
        if section.get("name") in registry.CATALOG[kind]:
            yield from _fields(registry.schema(kind, section["name"]), section)


def _fields(schema: type, values: dict[str, Any]) -> Iterator[Place]:
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint, value = hints[field.name], values.get(field.name)
        if dataclasses.is_dataclass(hint) and isinstance(value, dict):
            yield from _fields(typing.cast(type, hint), value)
        elif field.name in values:
            yield values, field.name, hint, field.metadata


def _value(hint: Any, limits: Mapping[str, Any], old: Any, draw: random.Random, near: bool) -> Any:
    """Draw a value within the limits of a setting; `_KEEP` for a text, which names a file or a run."""
    if "choices" in limits:
        return draw.choice(list(limits["choices"]))
    options = typing.get_args(hint)
    match typing.get_origin(hint):
        case typing.Union | types.UnionType:
            return _value(draw.choice(options), limits, old, draw, near)
        case origin if origin is Literal:
            return draw.choice(options)
        case origin if origin is list:
            old = old if isinstance(old, list) and old else [None]
            values = [
                _value(options[0], limits, draw.choice(old), draw, near) for _ in range(draw.randint(1, 3))
            ]
            return _KEEP if _KEEP in values else values
    if hint is type(None):
        return None
    if hint is bool:
        return draw.choice((True, False))
    if hint not in (int, float):
        return _KEEP
    is_number = isinstance(old, int | float) and not isinstance(old, bool)
    return _number(hint, limits, old if is_number else 1, draw, near)


def _number(hint: type, limits: Mapping[str, Any], old: float, draw: random.Random, near: bool) -> float:
    largest = LARGEST_INTEGER if hint is int else LARGEST_NUMBER
    low = limits.get("min", limits.get("above", 0))
    high = limits.get("max", limits.get("below", largest))
    if near:
        value = draw.choice((old + 1, old - 1, old * 2, old / 2, old, low, 1, 3))
    else:
        span = math.log1p(high - low)
        value = draw.choice((low, high, low + math.expm1(draw.uniform(0, span)), old * draw.uniform(0.5, 2)))
    value = min(max(value, low), high)
    if hint is int:
        return round(value)
    return value if "above" not in limits or value > low else low + (min(high, low + 1) - low) / 2

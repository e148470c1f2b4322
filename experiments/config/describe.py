"""Describe the settings of schemas for the help, the reference, shell completion, resuming and evaluation."""

import dataclasses
import itertools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from experiments.config import registry
from experiments.config.comparison import ComparisonConfig
from experiments.config.messages import show
from experiments.config.root import RootConfig
from experiments.config.schema import allowed_values
from experiments.config.sources import SECTIONS
from experiments.config.sweep import SweepConfig
from experiments.config.trainer import TrainerConfig


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a schema."""

    key: str  # the dotted key, such as `data.augment.shift`
    allowed: str  # the accepted values, in words
    default: str  # the default as YAML would write it, or `required`
    help: str  # one or two sentences
    choices: tuple[str, ...]  # the accepted values; empty if there are too many to list
    resume: Literal["same", "free"]  # `"free"` if the setting may change when a run is resumed
    evaluation: Literal["same", "test", "free"]
    """`"free"`, `"test"` or `"same"`; see `datamodules.setting.setting`."""


def describe(schema: type, prefix: str = "") -> list[Setting]:
    """List the settings of a schema, nested ones by their dotted key."""
    settings: list[Setting] = []
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint, key = hints[field.name], prefix + field.name
        if dataclasses.is_dataclass(hint):
            settings += describe(typing.cast(type, hint), f"{key}.")
            continue
        if field.default is not dataclasses.MISSING:
            default = show(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            default = show(field.default_factory())
        else:
            default = "required"
        settings.append(
            Setting(
                key=key,
                allowed=allowed_values(hint, field.metadata),
                default=default,
                help=field.metadata.get("help", ""),
                choices=_choices(hint, field.metadata),
                resume=field.metadata.get("resume", "same"),
                evaluation=field.metadata.get("evaluation", "test"),
            )
        )
    return settings


def settings_of(plain: Mapping[str, Any]) -> list[Setting]:
    """List the settings of a plain config: those of the root, the trainer and each named section."""
    settings = [*describe(RootConfig), *describe(TrainerConfig, "trainer.")]
    if "variants" in plain or "baselines" in plain or plain.get("seeds") or plain.get("folds"):
        settings += describe(ComparisonConfig, "comparison.")
    if "sweep" in plain:
        settings += [*describe(SweepConfig, "sweep."), *describe(ComparisonConfig, "comparison.")]
    for kind in SECTIONS:
        name = (plain.get(kind) or {}).get("name")
        if name in registry.CATALOG[kind]:
            settings += describe(registry.schema(kind, name), f"{kind}.")
    return settings


def values_set(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a plain config that differ from their defaults, by dotted key."""
    defaults = {setting.key: setting.default for setting in settings_of(plain)}
    return {key: value for key, value in flat(plain).items() if show(value) != defaults.get(key)}


def flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested sections by dotted key."""
    values: dict[str, Any] = {}
    for key, value in plain.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


def _choices(hint: Any, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """List the accepted values of a field; empty if there are too many to list."""
    options = typing.get_args(hint)
    null = ("null",) if type(None) in options else ()
    if "choices" in metadata:
        return (*map(str, metadata["choices"]), *null)
    if hint is bool:
        return ("true", "false")
    if typing.get_origin(hint) is Literal:
        return tuple(map(str, options))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        listed = [_choices(option, {}) for option in options if option is not type(None)]
        return (*itertools.chain(*listed), *null) if all(listed) else ()
    return ()

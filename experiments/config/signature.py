"""Settings from a signature: the schema of an own class or function that comes without a dataclass.

Each keyword that a config can write (a number, text, flag, choice, or a list of these) becomes a setting with
the default of the signature. Importing this file imports no torch.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from datamodules.setting import setting
from experiments.errors import UserError

OFFERED: dict[str, tuple[str, ...]] = {
    "model": ("info",),
    "data": ("seed",),
    "objective": ("info",),
    "schedule": ("total_steps", "steps_per_epoch"),
    "baseline": ("random_state",),
    "metric": ("info",),
}
"""Parameters that the suite passes if the signature names them; they are no settings."""
_CALLED_WITH = {
    "optimizer": ("the parameters",),
    "schedule": ("the step",),
    "reward": ("the prompt", "an answer", "the given answer"),
}
"""Kinds whose first parameters the suite passes; they are no settings."""
_PLAIN = (bool, int, float, str, type(None))


def schema_of(kind: str, target: Callable[..., Any]) -> type:
    """Make the schema of the settings of a class or function.

    Raises:
        UserError: A parameter without a default has a type that a config cannot write, or the parameters that
            the suite passes are missing.
    """
    _check_called_with(kind, target)
    hints, fields = _hints(target), []
    for name, parameter in _settings(kind, target).items():
        hint = _plain(hints.get(name), parameter.default)
        if hint is not None:
            default = dataclasses.MISSING if parameter.default is parameter.empty else parameter.default
            default = list(default) if isinstance(default, tuple) else default
            fields.append((name, hint, setting(default)))
        elif parameter.default is parameter.empty:
            why = (
                "and a class that takes a config needs a schema: register(kind, name, class, schema)"
                if name == "config"
                else "and a config cannot write its type; give it a type such as int, or a default"
            )
            raise UserError(f"{target.__name__} needs {name}, {why}")
    return dataclasses.make_dataclass(f"{target.__name__}Settings", fields, kw_only=True)


def arguments(
    kind: str, target: Callable[..., Any], config: Any, offered: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keyword arguments of a call: the settings, and what the signature names of `offered`."""
    parameters = _parameters(target)
    settings = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    values = {
        name: tuple(value) if isinstance(parameters[name].default, tuple) else value
        for name, value in settings.items()
    }
    return values | {name: value for name, value in offered.items() if name in parameters}


def _parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(target).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in named}


def _settings(kind: str, target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that a config sets."""
    passed = list(inspect.signature(target).parameters)[: len(_called_with(kind, target))]
    others = {*passed, *OFFERED.get(kind, ())}
    return {name: parameter for name, parameter in _parameters(target).items() if name not in others}


def _called_with(kind: str, target: Callable[..., Any]) -> tuple[str, ...]:
    """Return what the suite passes first, without names, for messages."""
    if kind == "objective" and not isinstance(target, type):
        return ("the outputs", "the targets")
    return _CALLED_WITH.get(kind, ())


def _check_called_with(kind: str, target: Callable[..., Any]) -> None:
    """Check that a class or function takes what the suite passes first."""
    expected = _called_with(kind, target)
    try:
        inspect.signature(target).bind_partial(*expected)
    except TypeError as error:
        raise UserError(
            f"{target.__name__} can't be called with {' and '.join(expected)} of the {kind}: {error}"
        ) from None
    except ValueError:  # of a function in C
        raise UserError(
            f"the signature of {target.__name__} is unknown; register a function of your own that calls it"
        ) from None


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    called = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        return typing.get_type_hints(called)
    except (NameError, TypeError):  # a name that only a type checker imports
        return {}


def _plain(hint: Any, default: Any) -> Any:
    """Return the part of a type hint that a config can write; without a hint, the type of the default."""
    if hint is None:
        hint = type(default)
        if hint in (list, tuple):
            hint = list[type(default[0])] if default else None  # type: ignore[misc]
        if default is None:
            return bool | int | float | str | None
        return hint if hint in _PLAIN[:-1] or typing.get_origin(hint) is list else None
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN or origin is Literal:
        found = hint
    elif origin in (typing.Union, types.UnionType):
        parts = [part for part in (_plain(option, default) for option in options) if part is not None]
        found = typing.Union[tuple(parts)] if set(parts) - {type(None)} else None  # noqa: UP007
    elif origin in (list, tuple, Sequence) and options and options[0] in _PLAIN:
        found = list[options[0]]  # type: ignore[valid-type]
    else:
        return None
    return typing.Optional[found] if found is not None and default is None else found  # noqa: UP045

"""Resolve references such as `${trainer.max_epochs}` to other values of a config.

OmegaConf's grammar parses them. Only references are evaluated: a resolver such as `${oc.env:HOME}` is refused
in whatever form it is written, because it could copy a secret into a saved config.
"""

import dataclasses
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar_parser import parse
from omegaconf.grammar_visitor import GrammarVisitor

from experiments.config import registry
from experiments.config.messages import cut
from experiments.config.root import RootConfig
from experiments.config.sources import SECTIONS, Layer, default_name
from experiments.config.trainer import TrainerConfig
from experiments.config.yaml_text import MAX_DEPTH, MAX_VALUES
from experiments.errors import UserError

LONGEST = 1000
"""Largest length of a text with references, before and after they are replaced."""
MAX_REFERENCES = 500
"""Largest number of texts with references in a config."""

Path = tuple[str, ...]
_parse = lru_cache(maxsize=2 * MAX_REFERENCES)(parse)


def has_reference(value: object) -> bool:
    """Return whether a value is a text that is parsed for references."""
    return isinstance(value, str) and "${" in value


def literal(value: Any) -> Any:
    r"""Escape resolved texts, so that reading them again gives the same: `${` becomes `\${`."""
    if isinstance(value, Mapping):
        return {key: literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literal(item) for item in value]
    if has_reference(value):
        return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", value)
    return value


class References:
    """The references in the values of a layer, each resolved once.

    A reference to a value that the layer does not set finds the default of its section.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._resolved: dict[Path, tuple[Any, int]] = {}
        self._active: set[Path] = set()
        self._texts = 0

    def resolve(self, key: str) -> Any:
        """Return the value of a root key with all its references replaced.

        Raises:
            UserError: A reference is malformed, uses a resolver, leads nowhere or to itself, or makes the
                config too large.
        """
        try:
            return self._at((key,))[0]
        except RecursionError:
            raise self._error((key,), "references are nested too deeply") from None

    def _at(self, path: Path) -> tuple[Any, int]:
        """Return the resolved value at a path, and how many values it consists of."""
        if path not in self._resolved:
            if path in self._active:
                raise self._error(path, "Recursive reference: the value refers to itself")
            self._active.add(path)
            try:
                self._resolved[path] = self._resolve(self._raw(path), path)
            finally:
                self._active.discard(path)
        return self._resolved[path]

    def _resolve(self, value: Any, path: Path) -> tuple[Any, int]:
        if len(path) > 2 * MAX_DEPTH:
            raise self._error(path, f"nested deeper than {2 * MAX_DEPTH} levels")
        if isinstance(value, Mapping):
            items = {key: self._at((*path, str(key))) for key in value}
            return self._counted({k: item for k, (item, _) in items.items()}, items.values(), path)
        if isinstance(value, (list, tuple)):
            found = [self._at((*path, str(index))) for index in range(len(value))]
            return self._counted([item for item, _ in found], found, path)
        if isinstance(value, str) and value == "???":
            raise self._error(path, "Missing value: ??? stands for a value that must be set")
        return self._evaluate(value, path) if has_reference(value) else (value, 1)

    def _counted(self, value: Any, parts: Any, path: Path) -> tuple[Any, int]:
        size = 1 + sum(count for _, count in parts)
        if size > MAX_VALUES:
            raise self._error(path, f"more than {MAX_VALUES} values; references count in full")
        return value, size

    def _evaluate(self, text: str, path: Path) -> tuple[Any, int]:
        """Replace the references in a text; a text that is one reference becomes the value it refers to."""
        self._texts += 1
        if len(text) > LONGEST or self._texts > MAX_REFERENCES:
            raise self._error(
                path,
                f"a config has at most {MAX_REFERENCES} references, in texts of at most {LONGEST} characters",
            )
        sizes = [1]

        def look_up(key: Any, _: object) -> Any:
            base = path[: -key.relative_dots] if key.relative_dots else ()
            try:
                value, size = self._at((*base, *key.parts))
            except _Absent:
                raise self._error(path, f"{cut(text)}: there is no {cut(key.raw)}") from None
            sizes.append(size)
            return value

        def refuse(name: str, **_: object) -> Any:
            raise self._error(
                path,
                f"{cut(text)}: resolvers such as oc.env are switched off; ${{section.key}} refers to another "
                "value",
            )

        try:
            value = GrammarVisitor(look_up, refuse, memo=set()).visit(cast(Any, _parse(text)))
        except OmegaConfBaseException as error:
            raise self._error(path, f"{cut(text)}: {cut(str(error).splitlines()[0])}") from None
        if isinstance(value, str) and len(value) > LONGEST:
            raise self._error(path, f"the text is longer than {LONGEST} characters")
        return value, max(sizes)

    def _raw(self, path: Path) -> Any:
        """Return the unresolved value at a path, or the default of its section."""
        if len(path) == 1:
            here: Any = self._layer.values
        else:
            here = self._raw(path[:-1])
            if has_reference(here):
                here = self._at(path[:-1])[0]
        key = path[-1]
        if isinstance(here, (list, tuple)) and key.isdecimal() and int(key) < len(here):
            return here[int(key)]
        if isinstance(here, Mapping):
            if key in here:
                return here[key]
            if other := next((name for name in here if str(name) == key), None):  # a number as the key
                return here[other]
        return self._default(path)

    def _default(self, path: Path) -> Any:
        top, *rest = path
        if top in SECTIONS:
            try:
                name = self._at((top, "name"))[0] if rest != ["name"] else None
            except _Absent:
                name = None
            if not name and top != "model":
                model = {"name": self._at(("model", "name"))[0]} if top == "objective" else None
                name = default_name(top, {"model": model})
            here: Any = {"name": name} if name else {}
            if isinstance(name, str) and name in registry.CATALOG[top]:
                here |= _defaults(registry.schema(top, name))
        elif top == "trainer":
            here = _defaults(TrainerConfig)
        else:
            here, rest = _defaults(RootConfig), [top, *rest]
        for key in rest:
            if not isinstance(here, Mapping) or key not in here:
                raise _Absent(".".join(path))
            here = here[key]
        return here

    def _error(self, path: Path, reason: str) -> UserError:
        name = ".".join(path)
        return UserError(f"{cut(name)} ({self._layer.origin(name)}): {reason}")


class _Absent(KeyError):
    """A reference leads to no value and no default."""


def _defaults(schema: type) -> dict[str, Any]:
    """Return the defaults of a schema as plain values."""
    found = {}
    for field in dataclasses.fields(schema):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            made = field.default_factory()
            found[field.name] = (
                dataclasses.asdict(made)
                if dataclasses.is_dataclass(made) and not isinstance(made, type)
                else made
            )
    return found

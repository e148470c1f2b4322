"""Read the sources of a config: YAML files, `key=value` overrides and mappings from Python.

Each source becomes a `Layer`: plain values, and for each value the file and line or the override that set it.
`merge` merges layers.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config import registry
from experiments.config.moved_keys import migrate
from experiments.errors import UserError

SECTIONS = ("model", "data", "objective", "optimizer", "schedule")
_DEFAULT_NAMES = {"optimizer": "adamw", "schedule": "constant"}

REPOSITORY = Path(__file__).resolve().parents[2]
"""The folder of the packages; in a checkout, the root of the repository."""
_INSTALLED = REPOSITORY / "experiments" / "configs"
PUBLISHED = _INSTALLED if _INSTALLED.is_dir() else REPOSITORY / "configs"
"""The folder of the published configs: inside the package in a wheel, next to it in a checkout."""

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The keys of these sections are free names, such as lr_0.1. A dot in them is part of the name.
NAMING = ("variants", "stages", "baselines")
# YAML 1.1 reads these words and numbers in surprising ways: no → false, 010 → 8, 1:30 → 90.
SURPRISING = re.compile(r"(?i:yes|no|on|off|y|n)|[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9]*)?")


@dataclass
class Layer:
    """Plain values, and the origin of each dotted path."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def origin(self, path: str) -> str:
        """Return the origin of a path, or of the nearest section around it."""
        while path and path not in self.origins:
            path = path.rpartition(".")[0]
        return self.origins.get(path, "default")


def find_file(path: str | Path) -> Path:
    """Find a config file as given, or by name among the published ones.

    Raises:
        UserError: There is no such file; names the nearest config.
    """
    given = Path(path)
    names = [given.name, f"{given.name}.yaml"]
    candidates = [
        given,
        PUBLISHED.parent / given,
        *(PUBLISHED / n for n in names),
        *(PUBLISHED / "presets" / n for n in names),
    ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    near = difflib.get_close_matches(given.stem, [p.stem for p in PUBLISHED.glob("*.yaml")], n=1)
    hint = (
        f"; did you mean configs/{near[0]}.yaml?" if near else "; python -m experiments.run --list shows all"
    )
    raise UserError(f"there is no config file {path}{hint}")


def read_file(path: str | Path) -> Layer:
    """Parse one YAML file.

    Raises:
        UserError: The file is missing, unreadable or not YAML, has a duplicate key, or has a value that YAML
            would misread.
    """
    file = find_file(path)
    label = str(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {label}: {error}") from None
    return _parse(text, label)


def read_override(text: str) -> Layer:
    """Parse one `key.path=value`; the value is YAML.

    Raises:
        UserError: The text has another form, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    parts = key.split(".")
    if not equals or not all(_KEY.fullmatch(part) for part in parts):
        why = "; a list is replaced whole, as in key=[1,2]" if "[" in key else ""
        raise UserError(f"{text!r} is neither a config file nor of the form key.path=value{why}")
    origin = "the command line"
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist([text]), resolve=False)
        node = yaml.compose(value, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, OmegaConfBaseException):
        raise UserError(f"the value of {key} is not valid YAML: {value!r}") from None
    if node is not None:
        _inspect(node, key, None, {})
    return layer_of(cast(dict[str, Any], parsed), lambda path: origin)


def read_mapping(values: Mapping[str, Any], origin: str = "the call") -> Layer:
    """Make a layer of values from Python; keys may be dotted."""
    return layer_of(values, lambda path: origin)


def _parse(text: str, label: str) -> Layer:
    lines: dict[str, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            if not isinstance(node, yaml.MappingNode):
                raise UserError(f"{label}:1: a config is a mapping of keys to values")
            _inspect(node, "", label, lines)
        values = OmegaConf.to_container(OmegaConf.create(text or "{}"), resolve=False)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{label}{where}: not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise UserError(f"{label}: an anchor's value contains itself, or the nesting is too deep") from None
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{label}: not valid YAML: {str(error).splitlines()[0]}") from None

    def origin(path: str) -> str:
        while path and path not in lines:
            path = path.rpartition(".")[0]
        return f"{label}:{lines[path]}" if path else label

    return layer_of(migrate(cast(dict[str, Any], values)), origin)


def is_key(text: str) -> bool:
    """Return whether a word is a single key: letters, digits and underscores."""
    return _KEY.fullmatch(text) is not None


def is_override(text: str) -> bool:
    """Return whether a word has the form `key=value`; the path of a YAML file may contain `=` too."""
    key, equals, _ = text.partition("=")
    return bool(equals) and (
        all(_KEY.fullmatch(part) for part in key.split(".")) or not text.endswith((".yaml", ".yml"))
    )


def _inspect(node: yaml.Node, path: str, label: str | None, lines: dict[str, int]) -> None:
    """Record the line of each key; refuse duplicate keys and values that YAML 1.1 would misread.

    Without a label, the text is the value of an override.
    """

    def where(part: yaml.Node) -> str:
        return "the command line" if label is None else f"{label}:{part.start_mark.line + 1}"

    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = str(key_node.value)
            child = f"{path}.{key}" if path else key
            if child in lines:
                first = "" if label is None else f", first set in line {lines[child]}"
                raise UserError(f"{where(key_node)}: duplicate key {child}{first}")
            lines[child] = key_node.start_mark.line + 1
            _inspect(value_node, child, label, lines)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _inspect(item, path, label, lines)
    elif isinstance(node, yaml.ScalarNode) and node.style is None and SURPRISING.fullmatch(node.value):
        raise UserError(
            f"{where(node)}: {path}: YAML does not read {node.value} as it looks; write true or false, "
            f"a number without leading zeros, or a quoted string"
        )


def layer_of(values: Mapping[str, Any], origin: Callable[[str], str]) -> Layer:
    """Expand dotted keys and record the origin of each path."""
    layer = Layer()

    def put(target: dict[str, Any], mapping: Mapping[Any, Any], prefix: str) -> None:
        for raw, value in mapping.items():
            here = target
            path = prefix
            *parents, last = [str(raw)] if prefix in NAMING else str(raw).split(".")
            for part in parents:
                path = f"{path}.{part}" if path else part
                here = here.setdefault(part, {})
                layer.origins.setdefault(path, origin(f"{prefix}.{raw}" if prefix else str(raw)))
                if not isinstance(here, dict):
                    raise UserError(f"{raw} ({origin(path)}): {path} already has a value of its own")
            path = f"{path}.{last}" if path else last
            layer.origins[path] = origin(f"{prefix}.{raw}" if prefix else str(raw))
            if isinstance(value, Mapping):
                child = here.setdefault(last, {})
                if not isinstance(child, dict):
                    raise UserError(f"{raw} ({origin(path)}): {path} already has a value of its own")
                put(child, value, path)
            else:
                here[last] = value

    put(layer.values, values, "")
    return layer


def default_name(kind: str, values: Mapping[str, Any]) -> str | None:
    """Return the name of the component of a section without a `name`: for an objective, that of the model."""
    if kind != "objective":
        return _DEFAULT_NAMES.get(kind)
    model = values.get("model")
    name = model.get("name") if isinstance(model, Mapping) else None
    return next(iter(registry.objectives(name)), None) if name in registry.CATALOG["model"] else None


def merge(*layers: Layer) -> Layer:
    """Merge layers; later layers win.

    Mappings merge and lists replace. If a layer changes the `name` of a section, the settings of that section
    in earlier layers are dropped, because they belong to another component.
    """
    values: Any = OmegaConf.create({})
    origins: dict[str, str] = {}
    for layer in layers:
        for kind in SECTIONS:
            new, old = layer.values.get(kind), values.get(kind)
            if not isinstance(new, dict) or not isinstance(old, DictConfig) or "name" not in new:
                continue
            if new["name"] != old.get("name", default_name(kind, values)):
                del values[kind]
                origins = {p: o for p, o in origins.items() if p != kind and not p.startswith(f"{kind}.")}
        values = OmegaConf.merge(values, OmegaConf.create(layer.values))
        origins.update(layer.origins)
    return Layer(cast(dict[str, Any], OmegaConf.to_container(values, resolve=False)), origins)

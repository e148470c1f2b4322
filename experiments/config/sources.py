"""Read the sources of a config: YAML files, `key=value` overrides and mappings from Python.

Each source becomes a `Layer`: plain values, and for each value the file and line or the override that set it.
`merge` merges layers.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config import registry
from experiments.config.messages import cut, escaped, nearest, show
from experiments.config.moved_keys import migrate
from experiments.config.yaml_text import (
    LONGEST_KEY,
    MAX_BYTES,
    MAX_DEPTH,
    check_key,
    parse_file,
    parse_value,
)
from experiments.errors import UserError

SECTIONS = ("model", "data", "objective", "optimizer", "schedule", "adapter", "reward")
_DEFAULT_NAMES = {"optimizer": "adamw", "schedule": "constant", "adapter": "lora", "reward": "final_answer"}

REPOSITORY = Path(__file__).resolve().parents[2]
"""The folder of the packages; in a checkout, the root of the repository."""
_INSTALLED = REPOSITORY / "experiments" / "configs"
PUBLISHED = _INSTALLED if _INSTALLED.is_dir() else REPOSITORY / "configs"
"""The folder of the published configs: inside the package in a wheel, next to it in a checkout."""

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The keys of these sections are free names, such as lr_0.1. A dot in them is part of the name.
NAMING = ("variants", "stages", "baselines")
STUDY = ("variants", "seeds", "folds", "baselines", "sweep", "comparison")
"""The root keys that make a study or a sweep."""


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
    try:
        given = Path(path).expanduser()
    except RuntimeError:  # ~name of a user who does not exist
        given = Path(path)
    names = [given.name, f"{given.name}.yaml"]
    candidates = [
        given,
        PUBLISHED.parent / given,
        *(PUBLISHED / n for n in names),
        *(PUBLISHED / "presets" / n for n in names),
    ]
    for candidate in candidates:
        if _is_file(candidate):
            return candidate
    near = nearest(given.stem, [p.stem for p in PUBLISHED.glob("*.yaml")])
    near = near.replace("mean ", "mean configs/").replace("?", ".yaml?")
    hint = near or "; python -m experiments.run --list shows all"
    raise UserError(f"there is no config file {cut(str(path), 200)}{hint}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the name is too long, or has a null character
        return False


def read_file(path: str | Path) -> Layer:
    """Parse one YAML file.

    Raises:
        UserError: The file is missing, unreadable or not YAML, has a duplicate key, or has a value that YAML
            would misread.
    """
    file = find_file(path)
    label = escaped(str(path))
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UserError(f"{label}: larger than {MAX_BYTES} bytes, the limit of a config file")
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {label}: {error}") from None
    values, lines = parse_file(text, label)

    def origin(path: str) -> str:
        while path and path not in lines:
            path = path.rpartition(".")[0]
        return f"{label}:{lines[path]}" if path else label

    return layer_of(migrate(values), origin)


def read_override(text: str) -> Layer:
    """Parse one `key.path=value`; the value is YAML.

    Raises:
        UserError: The text has another form, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    parts = key.split(".")
    if not equals or not all(_KEY.fullmatch(part) for part in parts):
        why = "; a list is replaced whole, as in key=[1,2]" if "[" in key else ""
        raise UserError(f"{show(text)} is neither a config file nor of the form key.path=value{why}")
    if len(key) > LONGEST_KEY:
        raise UserError(f"key {cut(key)}: a key has at most {LONGEST_KEY} characters")
    return layer_of({key: parse_value(value, key)}, lambda path: "the command line")


def override(key: str, value: object) -> str:
    """Return `key=value` such that `read_override` reads exactly this text."""
    text = str(value)
    try:
        if read_override(f"{key}={text}") == layer_of({key: text}, lambda path: "the command line"):
            return f"{key}={text}"
    except UserError:
        pass
    return f"{key}={json.dumps(text, ensure_ascii=False)}"


def read_mapping(values: Mapping[str, Any], origin: str = "the call") -> Layer:
    """Make a layer of values from Python; keys may be dotted."""
    return layer_of(values, lambda path: origin)


def is_key(text: str) -> bool:
    """Return whether a word is a single key: letters, digits and underscores."""
    return _KEY.fullmatch(text) is not None


def is_override(text: str) -> bool:
    """Return whether a word has the form `key=value`; the path of a YAML file may contain `=` too."""
    key, equals, _ = text.partition("=")
    return bool(equals) and (
        all(_KEY.fullmatch(part) for part in key.split(".")) or not text.endswith((".yaml", ".yml"))
    )


def layer_of(values: Mapping[str, Any], origin: Callable[[str], str]) -> Layer:
    """Expand dotted keys and record the origin of each path."""
    layer = Layer()

    def put(target: dict[str, Any], mapping: Mapping[Any, Any], prefix: str) -> None:
        for raw, value in mapping.items():
            check_key(raw, origin(prefix))
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
            if path.count(".") > MAX_DEPTH:
                raise UserError(f"{cut(path)} ({origin(prefix)}): nested deeper than {MAX_DEPTH} levels")
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
    return (
        next(iter(registry.objectives(name)), None)
        if isinstance(name, str) and name in registry.CATALOG["model"]
        else None
    )


def merge(*layers: Layer) -> Layer:
    """Merge layers; later layers win.

    Mappings merge and lists replace. If a layer changes the `name` of a section, the settings of that section
    in earlier layers are dropped, because they belong to another component. If a layer sets `variants` to
    null, the root keys of `STUDY` in earlier layers are dropped: one fit of the shared settings is left.
    """
    merged = Layer()
    for layer in layers:
        if layer.values.get("variants", ...) is None:
            merged = _without(merged, STUDY)
            layer = _without(layer, ("variants",))
        for kind in SECTIONS:
            new, old = layer.values.get(kind), merged.values.get(kind)
            if not isinstance(new, dict) or not isinstance(old, dict) or "name" not in new:
                continue
            if new["name"] != old.get("name", default_name(kind, merged.values)):
                merged = _without(merged, (kind,))
        merged = add(merged, layer)
    return merged


def _without(layer: Layer, keys: Sequence[str]) -> Layer:
    """Return a layer without some root keys."""
    return Layer(
        {key: value for key, value in layer.values.items() if key not in keys},
        {path: origin for path, origin in layer.origins.items() if path.partition(".")[0] not in keys},
    )


def add(below: Layer, above: Layer) -> Layer:
    """Merge two layers; mappings merge, and anything else replaces."""
    return Layer(_merged(below.values, above.values), below.origins | above.origins)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged

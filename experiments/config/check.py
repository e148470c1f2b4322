"""Turn YAML files and `key=value` overrides into a checked, typed experiment.

Each source is read, and the sources are merged from left to right (`experiments.config.sources`). A study or
chain is expanded into its fits (`experiments.config.variants`). References to other values are replaced
(`experiments.config.interpolation`). The values are checked against dataclasses
(`experiments.config.schema`). Errors name the key, its file and line, the allowed values and the nearest
valid name. Nothing here imports torch.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from experiments.config import registry, variants
from experiments.config.comparison import ComparisonConfig
from experiments.config.interpolation import References, literal
from experiments.config.messages import show
from experiments.config.root import Child, Config, RootConfig, Section
from experiments.config.schema import as_mapping, build, mapping_or_none, unknown_key
from experiments.config.sources import (
    SECTIONS,
    Layer,
    add,
    default_name,
    is_key,
    is_override,
    merge,
    read_file,
    read_mapping,
    read_override,
)
from experiments.config.sweep import Sweep, read_sweep
from experiments.config.trainer import TrainerConfig
from experiments.config.yaml_text import SURPRISING
from experiments.errors import UserError
from lit_modules.configs.transformer import TransformerConfig

ADDED = {"callbacks": "callback", "loggers": "logger", "metrics": "metric"}
"""Sections that add own classes to a fit by name, and the kinds of these classes."""
ROOT_KEYS = [field.name for field in dataclasses.fields(RootConfig)]
_NUMBER = re.compile(r"[-+]?[0-9.][0-9_.]*([eE][-+]?[0-9]+)?")


def load_config(*sources: str | Path | Mapping[str, Any]) -> Config:
    """Read, merge and check files, `key=value` strings and mappings, in this order of precedence.

    Raises:
        UserError: A source is missing or wrong.
    """
    if not sources:
        raise UserError("name a config file, for example: python -m experiments.run configs/mnist_cnn.yaml")
    files: list[Path | str] = []
    layers: list[Layer] = []
    # All overrides form one layer. As two layers, optimizer.lr=… optimizer.name=… would lose the rate.
    overrides = Layer()
    for source in sources:
        if isinstance(source, Mapping):
            layers.append(read_mapping(source))
        elif isinstance(source, str) and is_override(source):
            overrides = add(overrides, read_override(source))
        elif isinstance(source, Path) or source.endswith((".yaml", ".yml")) or is_key(source):
            files.append(source)
            layers.append(read_file(source))
        else:
            raise UserError(f"{show(source)} is neither a config file nor of the form key.path=value")
    name = re.sub(r"[^\w.,+-]|^\.", "_", Path(files[0]).stem)[:60] if files else "experiment"
    return check_config(merge(read_mapping({"name": name}, "default"), *layers, overrides))


def check_config(layer: Layer) -> Config:
    """Check the merged values against their schemas.

    Raises:
        UserError: A value is wrong; names its key, its origin and the allowed values.
    """
    raw, references = layer, References(layer)
    layer = _resolved(raw, references, ROOT_KEYS)
    root = _root(layer)
    form, layers = variants.expand(raw, root)
    sweep = None
    if form == "sweep":
        sweep = read_sweep(raw)
        layers = [(path, with_values(layer, sweep)) for path, layer in layers]
    if "comparison" in layer.values and not (form in ("variants", "sweep") or (layers and root.seeds)):
        raise UserError(
            f"comparison ({layer.origin('comparison')}): only a study has one; add variants, seeds or folds"
        )
    own = ("trainer", "baselines", "comparison") if layers else ("trainer", "task", *SECTIONS, *ADDED)
    layer = _resolved(layer, references, own)
    children = [Child(path=path, config=check_config(child)) for path, child in layers]
    if sweep is not None:  # the child has the first value of each setting
        for dimension in sweep.dimensions:
            for value in dimension.ends[1:]:
                check_config(with_values(layers[0][1], sweep, {dimension.key: value}))
    # The sections of a study or chain may be incomplete. Each child completes them and is checked as a whole.
    sections = {} if children else _sections(layer)
    task = _section("task", layer) if "task" in layer.values else None
    added: dict[str, Any] = {} if children else {key: _named(kind, key, layer) for key, kind in ADDED.items()}
    trainer_values = as_mapping(layer.values.get("trainer", {}), "trainer", layer)
    trainer = build(TrainerConfig, trainer_values, "trainer", layer)
    if children:  # not interpolated: ${seed} has another value in each fit
        plain = {k: v for k, v in raw.values.items() if k not in ROOT_KEYS}
    else:
        plain = {kind: literal(section.to_plain()) for kind, section in sections.items() if section}
        plain["trainer"] = literal(dataclasses.asdict(trainer))
        if task is not None:
            plain["task"] = literal(task.to_plain())
        for key, named in added.items():
            if named:
                plain[key] = {name: literal(section.to_plain()) for name, section in named.items()}
    plain = {**literal(dataclasses.asdict(root)), **plain}
    return Config(
        form=form,
        name=root.name,
        seed=root.seed,
        run_dir=root.run_dir,
        resume=root.resume,
        **(sections or {kind: getattr(children[0].config, kind) for kind in SECTIONS}),
        trainer=trainer,
        task=task,
        plain={k: v for k, v in plain.items() if k not in ("run_dir", "resume") and v not in ([], None)},
        children=tuple(children),
        baselines=_named("baseline", "baselines", layer),
        **added,
        sweep=sweep,
        comparison=comparison_of(layer),
    )


def _root(layer: Layer) -> RootConfig:
    """Check the root keys and their combinations."""
    values = layer.values
    known = [
        *ROOT_KEYS,
        *SECTIONS,
        *ADDED,
        "trainer",
        "task",
        "variants",
        "baselines",
        "comparison",
        "stages",
        "sweep",
    ]
    for key in values:
        if key not in known:
            if found := _sections_with(layer, key):
                raise UserError(f"unknown key {key} ({layer.origin(key)}); there is {', '.join(found)}")
            raise unknown_key(layer, key, known)
    root: RootConfig = build(RootConfig, {k: v for k, v in values.items() if k in ROOT_KEYS}, "", layer)
    if not all(map(variants.is_folder, root.name.split("/"))) or len(root.name) > 2 * variants.LONGEST_NAME:
        raise UserError(
            f"name = {show(root.name)} ({layer.origin('name')}): the name becomes a folder; "
            f"use at most {variants.LONGEST_NAME} letters, digits and _ - + . /"
        )
    if "stages" in values and (values.keys() & {"variants", "baselines"} or root.folds):
        raise UserError("a config has stages, or variants with baselines and folds: remove one of them")
    others = ("seeds", "folds", "variants", "baselines", "stages")
    if values.get("sweep") is not None and any(map(values.get, others)):
        raise UserError(
            "a sweep has no seeds, folds, variants, baselines or stages: choose by the sweep first, then "
            "train the winner with several seeds"
        )
    if "task" in values and values.keys() & {"stages", "variants"}:
        raise UserError(f"task ({layer.origin('task')}): a task belongs inside one of the stages")
    return root


def with_values(layer: Layer, sweep: Sweep, values: Mapping[str, Any] | None = None) -> Layer:
    """Set the settings of a sweep in a fit: `values` by their dotted keys, and the first value of others."""
    chosen = {d.key: d.ends[0] for d in sweep.dimensions} | dict(values or {})
    return merge(layer, *(read_mapping({key: value}, f"sweep.{key}") for key, value in chosen.items()))


def _sections_with(layer: Layer, key: str) -> list[str]:
    """Return the full keys of the settings of this name, for a key that was written without its section."""
    schemas: dict[str, Any] = {"trainer": TrainerConfig}
    for kind in SECTIONS:
        section = layer.values.get(kind)
        name = section.get("name") if isinstance(section, Mapping) else None
        if name in registry.CATALOG[kind]:
            schemas[kind] = registry.schema(kind, str(name))
    return [
        f"{kind}.{key}"
        for kind, schema in schemas.items()
        if key in [field.name for field in dataclasses.fields(schema)]
    ]


def comparison_of(layer: Layer) -> ComparisonConfig:
    """Check the section `comparison` of a study's config, or of the file that a study has saved.

    Raises:
        UserError: A value is wrong.
    """
    return cast(
        ComparisonConfig,
        build(ComparisonConfig, mapping_or_none(layer, "comparison"), "comparison", layer),
    )


def _named(kind: str, key: str, layer: Layer) -> dict[str, Section]:
    """Check a section of named settings; a name is also the component, unless the settings name another."""
    found = variants.named(layer, key) if kind == "baseline" else mapping_or_none(layer, key)
    return {
        str(name): _section(
            kind,
            layer,
            as_mapping({} if values is None else values, f"{key}.{name}", layer),
            f"{key}.{name}",
            str(name),
        )
        for name, values in found.items()
    }


def _sections(layer: Layer) -> dict[str, Any]:
    """Check every section of a fit; one that is absent, or that the model replaces, is `None`."""
    sections: dict[str, Any] = {"model": _section("model", layer)}
    model = sections["model"].name
    suited = registry.objectives(model)
    replaced = {kind for kind in ("objective", "optimizer", "schedule") if registry.is_plain(model)}
    replaced |= set() if suited else {"objective"}
    for kind in SECTIONS[1:]:
        if kind == "adapter":
            sections[kind] = _adapter(layer, sections["model"])
        elif kind == "reward":
            sections[kind] = _reward(layer, sections["model"])
        elif kind not in replaced:
            sections[kind] = _section(kind, layer)
        elif mapping_or_none(layer, kind):
            article = "a" if kind == "schedule" else "an"
            raise UserError(
                f"{kind} ({layer.origin(kind)}): the model {model} has {article} {kind} of "
                "its own; remove this section"
            )
        else:
            sections[kind] = None
    objective = sections["objective"]
    if objective is not None and objective.name not in suited:
        raise UserError(
            f"objective.name = {objective.name} ({layer.origin('objective.name')}): the model "
            f"{model} cannot be trained with it; choose from {', '.join(suited)}"
        )
    return sections


def _adapter(layer: Layer, model: Section) -> Section | None:
    """Check the section `adapter`, which only transformers with given weights can have."""
    if layer.values.get("adapter") is None:
        return None
    where = f"adapter ({layer.origin('adapter')})"
    if not isinstance(model.config, TransformerConfig):
        raise UserError(f"{where}: {model.name} is not a transformer; remove this section")
    if getattr(model.config, "init_from", None) is None:
        raise UserError(f"{where}: name the weights that stay frozen with model.init_from")
    return _section("adapter", layer)


def _reward(layer: Layer, model: Section) -> Section | None:
    """Check the section `reward`, which only a model that generates answers has."""
    if getattr(registry.schema("model", model.name), "has_reward", False):
        return _section("reward", layer)
    if layer.values.get("reward") is not None:
        raise UserError(
            f"reward ({layer.origin('reward')}): {model.name} generates no answers; remove this section"
        )
    return None


def _section(
    kind: str,
    layer: Layer,
    values: Mapping[str, Any] | None = None,
    path: str = "",
    default: str | None = None,
) -> Section:
    path = path or kind
    if values is None:
        values = mapping_or_none(layer, kind)
    # A section without a name keeps the default component.
    name = values["name"] if "name" in values else default or default_name(kind, layer.values)
    if name is None:
        raise UserError(f"{path}.name is missing; choose from {', '.join(registry.CATALOG[kind])}")
    try:
        schema = registry.schema(kind, name)
    except UserError as error:
        raise UserError(f"{path}.name ({layer.origin(f'{path}.name')}): {error}") from None
    rest = {k: v for k, v in values.items() if k != "name"}
    return Section(name, build(schema, rest, path, layer))


def _resolved(layer: Layer, references: References, keys: Iterable[str]) -> Layer:
    """Replace the references in the values of some root keys."""
    values = {key: references.resolve(key) for key in keys if key in layer.values}
    return Layer({**layer.values, **values}, layer.origins)


def to_yaml(plain: Mapping[str, Any]) -> str:
    """Write plain values as YAML, in their order, so that `load_config` reads the same values."""
    return yaml.dump(dict(plain), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Quotes strings such as y and 1e3, which `load_config` would refuse or read as a number."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    ambiguous = SURPRISING.fullmatch(text) or _NUMBER.fullmatch(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if ambiguous else None)


_Dumper.add_representer(str, _represent_text)

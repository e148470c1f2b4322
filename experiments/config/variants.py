"""Expand a config with `variants` or `stages`, × `seeds`, into the configs of its fits.

This module only makes layers of plain values. `experiments.config.check` checks each as a config.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.config import registry
from experiments.config.messages import cut
from experiments.config.root import Form, RootConfig
from experiments.config.schema import as_mapping, mapping_or_none
from experiments.config.sources import Layer, layer_of, merge, read_mapping
from experiments.errors import UserError

FOLDER = re.compile(r"(?!\.)[\w.,+-]+")
"""A valid name of a folder."""
LONGEST_NAME = 100
"""Largest length of one folder's name; file systems allow 255 bytes."""
MAX_FITS = 1000
"""Largest number of fits in one study."""
RESERVED = re.compile(r"checkpoints|tensorboard|.*\.(yaml|json|csv|md|png|log|lock|ckpt)", re.IGNORECASE)
"""Names that a run directory may use itself."""
_ROOT_ONLY = ("variants", "seeds", "folds", "baselines", "comparison", "stages", "sweep", "run_dir", "resume")


def is_folder(name: str) -> bool:
    """Return whether a name is valid for a folder on every file system."""
    return FOLDER.fullmatch(name) is not None and len(name.encode()) <= LONGEST_NAME


def expand(layer: Layer, root: RootConfig) -> tuple[Form, list[tuple[str, Layer]]]:
    """Return the form of a config, and the subdirectory and layer of each of its fits.

    Args:
        layer: The merged sources before interpolation, so that `${…}` sees the values of each fit.
        root: The checked root keys.

    Raises:
        UserError: Two fits have the same name, a name is not a valid folder name, or a fit sets a root key.
    """
    if "stages" in layer.values:
        return "stages", _stages(layer, root)
    if layer.values.get("sweep") is not None:
        return "sweep", [("trial_000", _base(layer))]
    if root.seeds or root.folds or "variants" in layer.values or mapping_or_none(layer, "baselines"):
        return "variants", _variants(layer, root)
    return "fit", []


def named(layer: Layer, key: str) -> dict[str, Any]:
    """Return the variants, stages or baselines by name; each name becomes a folder.

    Raises:
        UserError: A name is no valid folder.
    """
    found = mapping_or_none(layer, key)
    for name in found:
        if not is_folder(str(name)):
            raise UserError(
                f"{key}.{cut(str(name))} ({layer.origin(key)}): a name becomes a folder; use at most "
                f"{LONGEST_NAME} letters, digits and _ - + ."
            )
        if RESERVED.fullmatch(str(name)):
            raise UserError(
                f"{key}.{name} ({layer.origin(f'{key}.{name}')}): a run directory uses such names itself; "
                "choose another"
            )
    return found


def _stages(layer: Layer, root: RootConfig) -> list[tuple[str, Layer]]:
    """Return the stages of a chain, in order; with `seeds`, all stages of a seed before the next seed."""
    stages = _overlays(layer, "stages")
    if not stages:
        raise UserError(f"stages ({layer.origin('stages')}) names no stage")
    _check_different("stages", stages)
    named_stages = {
        name: merge(_base(layer), overlay, read_mapping({"name": f"{root.name}/{name}"}))
        for name, overlay in stages.items()
    }
    if not root.seeds:
        return list(named_stages.items())
    _check_seeds("stages", stages, root.seeds, layer)
    return [
        (f"{name}/seed_{seed}", merge(stage, read_mapping({"seed": seed}, layer.origin("seeds"))))
        for seed in root.seeds
        for name, stage in named_stages.items()
    ]


def _variants(layer: Layer, root: RootConfig) -> list[tuple[str, Layer]]:
    """Return the fits of a study: each variant with each seed, and each fold of a cross-validation."""
    variants = _overlays(layer, "variants") or {root.name: Layer()}
    _check_different("variants or baselines", [*variants, *named(layer, "baselines")])
    seeds = root.seeds or [root.seed]
    _check_seeds("variants", variants, seeds, layer)
    folds = [None] if root.folds is None else list(range(root.folds))
    if len(variants) * len(seeds) * len(folds) > MAX_FITS:
        of_folds = f" and {root.folds} folds" if root.folds else ""
        raise UserError(
            f"{len(variants)} variants with {len(seeds)} seeds{of_folds} are more than {MAX_FITS} fits; "
            "use several configs"
        )
    fits = []
    for name, overlay in variants.items():
        for seed in seeds:
            seeded = read_mapping({"seed": seed, "name": f"{root.name}/{name}"}, layer.origin("seeds"))
            for fold in folds:
                fit, folder = merge(_base(layer), overlay, seeded), f"{name}/seed_{seed}"
                if fold is not None:
                    _check_folds(fit, layer)
                    values = {"data": {"folds": root.folds, "fold": fold}}
                    fit = merge(fit, read_mapping(values, layer.origin("folds")))
                    folder += f"_fold_{fold}"
                fits.append((folder, fit))
    return fits


def _check_seeds(kind: str, overlays: Mapping[str, Layer], seeds: Sequence[int], layer: Layer) -> None:
    """Check that no seed is there twice, and that no variant or stage sets its own."""
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds ({layer.origin('seeds')}) names a seed twice: {seeds}")
    for name, overlay in overlays.items():
        if "seed" in overlay.values:
            raise UserError(
                f"{kind}.{name}.seed ({overlay.origin('seed')}): set seeds: once for all {kind} instead"
            )


def _check_folds(fit: Layer, study: Layer) -> None:
    """Check that the data of a fit can be split into folds."""
    name = mapping_or_none(fit, "data").get("name")
    names = registry.CATALOG["data"]
    if name in names and "folds" not in _fields("data", str(name)):
        able = [other for other in names if "folds" in _fields("data", other)]
        why = getattr(registry.schema("data", str(name)), "NO_FOLDS", "its schema has no setting folds")
        raise UserError(
            f"folds ({study.origin('folds')}): data.name {name} can't be split into folds: {why}; choose "
            f"from {', '.join(able)}, or give your own schema the settings folds and fold"
        )


def _fields(kind: str, name: str) -> list[str]:
    return [field.name for field in dataclasses.fields(registry.schema(kind, name))]


def _check_different(kind: str, names: Iterable[str]) -> None:
    """Check that no two names are the same folder where upper and lower case are not distinguished."""
    counts = Counter(name.casefold() for name in names)
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise UserError(f"two {kind} are named {twice!r}; each needs a folder of its own")


def _base(layer: Layer) -> Layer:
    """Return the values that all fits of a study or chain share."""
    return Layer({k: v for k, v in layer.values.items() if k not in _ROOT_ONLY}, layer.origins)


def _overlays(layer: Layer, key: str) -> dict[str, Layer]:
    """Return the overrides of each variant or stage, with their origins."""
    overlays = {}
    for name, values in named(layer, key).items():
        prefix = f"{key}.{name}"

        def origin(path: str, prefix: str = prefix) -> str:
            return layer.origin(f"{prefix}.{path}")

        overlay = layer_of(as_mapping({} if values is None else values, prefix, layer), origin)
        for nested in _ROOT_ONLY:
            if nested in overlay.values:
                raise UserError(
                    f"{prefix}.{nested} ({overlay.origin(nested)}): not allowed in one of the {key}"
                )
        overlays[str(name)] = overlay
    return overlays

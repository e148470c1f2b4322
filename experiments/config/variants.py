"""From a config with `variants` × `seeds`, or with `stages`, to the configs of its fits.

Only layers of plain values are made here; `check` takes each as a config of its own.
"""

import re
from typing import Any

from experiments.config.root import Form, RootConfig
from experiments.config.schema import as_mapping, mapping_or_none
from experiments.config.sources import Layer, layer_of, merge, read_mapping
from experiments.errors import UserError

FOLDER = re.compile(r"(?!\.)[\w.,+-]+")
"""What may be the name of a folder."""
_ROOT_ONLY = ("variants", "seeds", "baselines", "stages", "run_dir", "resume")


def expand(layer: Layer, root: RootConfig) -> tuple[Form, list[tuple[str, Layer]]]:
    """The form of a config, and the subdirectory and layer of each fit that it holds.

    Args:
        layer: The merged sources, not interpolated yet, so that a fit's own values reach where they are used.
        root: The checked keys beside the sections.

    Raises:
        UserError: The names of the fits clash or can't be folders, or a fit sets what only the whole can.
    """
    if "stages" in layer.values:
        return "stages", _stages(layer, root)
    if root.seeds or "variants" in layer.values or mapping_or_none(layer, "baselines"):
        return "variants", _variants(layer, root)
    return "fit", []


def named(layer: Layer, key: str) -> dict[str, Any]:
    """The variants, stages or baselines by name; each name becomes a folder.

    Raises:
        UserError: A name can't be one.
    """
    found = mapping_or_none(layer, key)
    for name in found:
        if not FOLDER.fullmatch(str(name)):
            raise UserError(
                f"{key}.{name} ({layer.origin(key)}): a name becomes a folder; "
                "use letters, digits and _ - + ."
            )
    return found


def _stages(layer: Layer, root: RootConfig) -> list[tuple[str, Layer]]:
    """A chain's fits, in order."""
    stages = _overlays(layer, "stages")
    if not stages:
        raise UserError(f"stages ({layer.origin('stages')}) names no stage")
    return [
        (name, merge(_base(layer), overlay, read_mapping({"name": f"{root.name}/{name}"})))
        for name, overlay in stages.items()
    ]


def _variants(layer: Layer, root: RootConfig) -> list[tuple[str, Layer]]:
    """A study's fits: every variant with every seed."""
    variants = _overlays(layer, "variants") or {root.name: Layer()}
    folders = [name.casefold() for name in (*variants, *named(layer, "baselines"))]
    if twice := next((name for name in folders if folders.count(name) > 1), None):
        raise UserError(f"two variants or baselines are named {twice!r}; each needs a folder of its own")
    seeds = root.seeds or [root.seed]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds ({layer.origin('seeds')}) names a seed twice: {seeds}")
    fits = []
    for name, overlay in variants.items():
        if "seed" in overlay.values:
            raise UserError(
                f"variants.{name}.seed ({overlay.origin('seed')}): say seeds: once for all variants"
            )
        for seed in seeds:
            seeded = read_mapping({"seed": seed, "name": f"{root.name}/{name}"}, layer.origin("seeds"))
            fits.append((f"{name}/seed_{seed}", merge(_base(layer), overlay, seeded)))
    return fits


def _base(layer: Layer) -> Layer:
    """What all fits of a study or chain have in common."""
    return Layer({k: v for k, v in layer.values.items() if k not in _ROOT_ONLY}, layer.origins)


def _overlays(layer: Layer, key: str) -> dict[str, Layer]:
    """The overrides of each variant or stage, with their origins."""
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

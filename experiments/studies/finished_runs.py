"""Find run directories, read their final metrics, and group the runs of one variant over its seeds.

A run directory holds `metrics.json`. If it holds only `config.yaml` or `failed.json`, the run failed. Any
other directory is searched for runs. The runs of a study are in `<variant>/seed_<n>/`, or in
`<variant>/seed_<n>_fold_<k>/`; those of a chain with seeds in `<stage>/seed_<n>/`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.config.describe import flat

MAY_DIFFER = {
    *("seed", "run_dir", "resume"),
    *("trainer.progress_bar", "trainer.dashboard", "trainer.profiler"),  # how a run was shown
}
"""Config keys that may differ between the runs of a group."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run directory with its final metrics by name, or the reason why it has none."""

    path: Path
    metrics: Mapping[str, float]
    failure: str | None = None


def find_runs(path: Path) -> list[Path]:
    """Return the run directories in `path` (which may be one itself), at any depth, in natural order."""
    if (path / "metrics.json").is_file():
        return [path]
    children = (child for child in path.iterdir() if child.is_dir() and not child.is_symlink())
    found = [run for child in sorted(children, key=_natural) for run in find_runs(child)]
    if not found and any((path / name).is_file() for name in ("config.yaml", "failed.json")):
        return [path]
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts `depth_4` before `depth_16`."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", path.name)]


def read_run(path: Path) -> Run:
    """Read the metrics of a run, or the reason why it has none. Values that are not numbers are left out."""
    try:
        content = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Run(path=path, metrics={}, failure=_reason(path))
    except (OSError, ValueError, RecursionError) as error:
        return Run(path=path, metrics={}, failure=f"metrics.json cannot be read: {error}")
    items = content.items() if isinstance(content, dict) else ()
    numbers = {k: float(v) for k, v in items if isinstance(v, int | float) and not isinstance(v, bool)}
    return Run(path=path, metrics=numbers)


def _reason(path: Path) -> str:
    """Return the reason in failed.json: its `error` on one line, or else its `exit_status`."""
    try:
        content = json.loads((path / "failed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return "there is no metrics.json"
    failure = content if isinstance(content, dict) else {}
    if "error" in failure:
        return " ".join(str(failure["error"]).split())
    return f"exit status {failure.get('exit_status', 'unknown')}, see its run.log"


def group_names(runs: Sequence[Path]) -> list[str]:
    """Return the group name of each run: the variant in a study, else the name in its config.

    If runs have the same name but different settings, the settings that differ are added to the name.
    """
    places = [run.resolve() for run in runs]
    configs = {place: _config(place) for place in places}
    variants = {place: place.parent if _is_seed(place) else place for place in places}
    studies = {place.parent.parent for place in places if _is_seed(place)}
    studies |= {place.parent for place in places if {"variants", "stages"} & _config(place.parent).keys()}
    common = _common_folder(studies)
    names = {}
    alone: dict[str, list[Path]] = {}
    for place in places:
        if variants[place].parent in studies:
            names[place] = variants[place].relative_to(common).as_posix()
        else:
            alone.setdefault(str(configs[place].get("name") or place.name), []).append(place)
    for name, group in alone.items():
        texts = {place: {k: str(v) for k, v in flat(configs[place]).items()} for place in group}
        keys = sorted({key for values in texts.values() for key in values} - MAY_DIFFER)
        differing = [key for key in keys if len({values.get(key) for values in texts.values()}) > 1]
        for place in group:
            names[place] = " ".join([name, *(f"{key}={texts[place].get(key)}" for key in differing)])
    return [names[place] for place in places]


def monitored(run: Path) -> tuple[str, str] | None:
    """Return the validation metric that a fit monitored and its mode; `None` for another run.

    The stages of a chain have different tasks, so no metric chooses between them: `None` for each.
    """
    trainer = _config(run).get("trainer")
    if not isinstance(trainer, Mapping) or "monitor" not in trainer:
        return None
    if any("stages" in _config(folder) for folder in run.resolve().parents[:2]):
        return None
    return str(trainer["monitor"]), str(trainer.get("monitor_mode", "min"))


def _is_seed(place: Path) -> bool:
    return re.fullmatch(r"seed_\d+(_fold_\d+)?", place.name) is not None


def _common_folder(studies: set[Path]) -> Path:
    """Return the deepest folder that contains all studies. Variants are named relative to it."""
    chains = [[study, *study.parents] for study in studies]
    shared = set(chains[0]).intersection(*chains) if chains else set()
    return max(shared, key=lambda folder: len(folder.parts), default=Path())


def _config(run: Path) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"), resolve=False)
    except Exception:  # YAML and OmegaConf raise many kinds of errors; only the name is lost.
        return {}
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}

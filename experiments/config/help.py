"""Write the pages of `run --help` and `run --list` from the schemas and the configs."""

import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.commands import overview
from experiments.config import registry
from experiments.config.comparison import ComparisonConfig
from experiments.config.describe import describe
from experiments.config.messages import show
from experiments.config.root import Config, RootConfig
from experiments.config.sources import PUBLISHED, SECTIONS
from experiments.config.sweep import SweepConfig
from experiments.config.trainer import TrainerConfig

OPTIONS = {
    "--help": "Print this page; with a config, also its values and the settings of its sections.",
    "--list": "List the published configs and what each shows.",
    "--print-config": "Print the merged config with all defaults, and run nothing.",
    "--dry-run": "Run one batch of each stage, and write nothing.",
    "--use": "Load a Python file that registers your own classes: --use FILE.py.",
    "--debug": "Print the traceback of an error.",
}


def usage(experiment: Config | None) -> str:
    """Write the help page of `run`; with a config, its own values and the settings of its sections too."""
    lines = [
        "python -m experiments.run CONFIG.yaml [MORE.yaml …] [key.path=value …]",
        "",
        "Later files win over earlier ones, and overrides win over files.",
        "",
        *(f"  {name:<16}{text}" for name, text in OPTIONS.items()),
        "",
        "commands (python -m experiments.COMMAND --help, or experiments COMMAND --help)",
        overview(),
        "",
    ]
    values = {} if experiment is None else experiment.plain
    lines += _table("run", RootConfig, "", values)
    lines += [
        "stages, variants, baselines",
        "  Settings by name: `stages` run in order, `variants` are compared, `baselines` are simple models.",
        "callbacks, loggers, metrics",
        "  Classes by name: your own, which `experiments.register` has added, and the metrics below.",
        "",
    ]
    if experiment is None or experiment.is_compared:
        lines += _table("comparison of variants or stages", ComparisonConfig, "comparison.", values)
    if experiment is None or experiment.form == "sweep":
        lines += _table(
            "sweep: further keys are settings with a list or a range", SweepConfig, "sweep.", values
        )
    lines += _table("trainer", TrainerConfig, "trainer.", values)
    for kind in SECTIONS:
        if experiment is not None and not experiment.children:
            section = getattr(experiment, kind)
            if section is not None:
                schema = registry.schema(kind, section.name)
                lines += _table(f"{kind}: {section.name}", schema, f"{kind}.", values)
        else:
            lines += _catalog(kind, f"{kind}.name")
    lines += _catalog("metric", "metrics.NAME")
    if experiment is None or experiment.children:
        lines += _catalog("task", "stages.NAME.task.name")
    if experiment is None:
        lines.append("The settings of a model or data set: python -m experiments.run CONFIG.yaml --help")
    return "\n".join(lines).rstrip()


def _catalog(kind: str, title: str) -> list[str]:
    entries = registry.CATALOG[kind].items()
    return [title, *(f"  {name:<22}{entry.help}" for name, entry in entries), ""]


def _table(title: str, schema: type, prefix: str, values: Mapping[str, Any]) -> list[str]:
    width = max(60, shutil.get_terminal_size((110, 24)).columns - 4)
    lines = [title]
    for setting in describe(schema, prefix):
        value = _lookup(values, setting.key, setting.default)
        changed = "" if value == setting.default else f" (default: {setting.default})"
        lines.append(f"  {setting.key} = {value}{changed}")
        lines += textwrap.wrap(
            f"{setting.help} Takes {setting.allowed}.",
            width,
            initial_indent="      ",
            subsequent_indent="      ",
        )
    return [*lines, ""]


def _lookup(values: Mapping[str, Any], key: str, default: str) -> str:
    """Find the value of a dotted key and write it as YAML would."""
    here: Any = values
    for part in key.split("."):
        if not isinstance(here, Mapping) or part not in here:
            return default
        here = here[part]
    return show(here)


def summary(path: Path) -> str:
    """Return what a config shows: the first sentence of its head comment."""
    comment: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or line.strip("# ") == "":
            break
        comment.append(line.strip("# "))
    return " ".join(comment).partition(". ")[0].rstrip(".")


def list_configs() -> str:
    """List the published configs, one line each."""
    paths = sorted(PUBLISHED.glob("*.yaml"))
    width = max((len(path.name) for path in paths), default=0)
    return "\n".join(f"configs/{path.name:<{width}}  {summary(path)}" for path in paths)

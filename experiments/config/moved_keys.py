"""Settings that have moved: the message for overrides, conversion of older files and checkpoints."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.config import registry

MOVED = {
    "model.label_smoothing": "objective.label_smoothing",
    "model.loss": "objective.name",
    "model.kernel": "model.implementation",
}
"""Today's key of each setting that had another one."""


def hint(path: str, value: Any = None) -> str:
    """Return where a key or value has moved to, as the end of an error message; empty if it has not."""
    if path == "model.implementation" and value in ("layer", "cell_loop"):
        return f"; it is now model.loop: {str(value == 'cell_loop').lower()}"
    if path == "model.batch_norm":
        return "; it is now model.norm: batch_norm"
    return f"; it is now {MOVED[path]}" if path in MOVED else ""


def migrate(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain config of an older file or checkpoint with today's keys.

    A setting of that name that a model still has, perhaps your own model, stays.
    """
    sections = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    model = sections.get("model")
    if not isinstance(model, dict) or str(model.get("name")) not in registry.CATALOG["model"]:
        return sections
    known = {field.name for field in dataclasses.fields(registry.schema("model", model["name"]))}
    if model["name"] == "char_rnn" and model.get("implementation") in ("layer", "cell_loop"):
        model["loop"] = model.pop("implementation") == "cell_loop"
    if "batch_norm" in model and "batch_norm" not in known and "norm" in known:
        model["norm"] = "batch_norm" if model.pop("batch_norm") else "none"
    for old, new in MOVED.items():
        _, old_key = old.split(".")
        section, new_key = new.split(".")
        target = sections.get(section) or {}
        if old_key in model and old_key not in known and isinstance(target, dict):
            target.setdefault(new_key, model.pop(old_key))
            sections[section] = target
    return sections

"""Keep what a run has saved: move damaged files aside, and replace a best checkpoint that is lost."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from experiments.console import say
from experiments.errors import RunError, replacing


def set_aside(path: Path, suffix: str = "damaged") -> Path:
    """Rename a file or folder to NAME.damaged, or NAME.damaged-2 and so on; return the new path."""
    names = (f"{path.name}.{suffix}{'' if n == 1 else f'-{n}'}" for n in range(1, 10_000))
    target = next(p for name in names if not os.path.lexists(p := path.with_name(name)))
    try:
        path.rename(target)
    except OSError as error:
        raise RunError(f"cannot rename {path}: {error.strerror or error}") from error
    say(f"{path} is now {target.name}")
    return target


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy a checkpoint under a temporary name and rename it."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def is_damaged_json(path: Path) -> bool:
    """Return whether a file exists and does not hold a JSON object of numbers and nulls."""
    if not path.exists():
        return False
    try:
        values = json.loads(path.read_bytes())
    except ValueError:
        return True
    return not isinstance(values, dict) or not all(isinstance(v, float | int | None) for v in values.values())


def best_is_lost(state: dict[str, Any], best_step: int | None) -> bool:
    """Return whether the best state that a checkpoint remembers is not the one in `best.ckpt`.

    Args:
        state: The newest checkpoint of a run.
        best_step: The step of `best.ckpt`; `None` if it is missing or damaged.
    """
    saved = state["callbacks"].get("Checkpoints", {})
    if saved.get("best_score") is None:
        return False  # nothing was validated yet
    return best_step is None or saved.get("best_step") not in (None, best_step)


def forget_lost_best(state: dict[str, Any]) -> str:
    """Adapt the newest state to the loss of `best.ckpt`, for which it stands in; return a line about it.

    If it is itself the best, nothing is lost. Otherwise the next validation is the best so far.
    """
    saved = state["callbacks"]["Checkpoints"]
    if saved.get("best_step") == state["global_step"]:
        return "best.ckpt is restored from last.ckpt, which holds the same state"
    state["callbacks"]["Checkpoints"] = {"best_score": None, "best_metrics": {}, "best_step": None}
    return (
        f"the best state is lost; step {state['global_step']} stands in for it until the next validation, "
        "which counts as the best"
    )

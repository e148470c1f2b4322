"""Keep what a run has saved: move damaged files aside, and replace a best checkpoint that is lost."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from datamodules.assets.ordinary_files import check_ordinary
from experiments.console import say
from experiments.errors import RunError, UserError, replacing


def set_aside(path: Path, suffix: str = "damaged") -> Path:
    """Rename a file or folder to NAME.damaged, or NAME.damaged-2 and so on; return the new path."""
    target = _unused(path, suffix)
    try:
        path.rename(target)
    except OSError as error:
        raise RunError(f"cannot rename {path}: {error.strerror or error}") from error
    say(f"{path} is now {target.name}")
    return target


def copy_aside(path: Path) -> None:
    """Copy a damaged file to NAME.damaged, or NAME.damaged-2 and so on."""
    target = _unused(path, "damaged")
    copy_file(path, target)
    say(f"{path} is damaged: its readable part stays, and {target.name} is a copy of the whole")


def _unused(path: Path, suffix: str) -> Path:
    names = (f"{path.name}.{suffix}{'' if n == 1 else f'-{n}'}" for n in range(1, 10_000))
    return next(p for name in names if not os.path.lexists(p := path.with_name(name)))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file under a temporary name and rename it."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def is_damaged_json(path: Path) -> bool:
    """Return whether a file exists and does not hold a JSON object of numbers and nulls.

    Raises:
        UserError: The system cannot read the file, which says nothing about its content.
    """
    if not os.path.lexists(path):
        return False
    try:
        check_ordinary(path)
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return True
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; nothing was changed") from None
    return not isinstance(values, dict) or not all(isinstance(v, float | int | None) for v in values.values())


def best_is_lost(state: dict[str, Any], best_step: int | None) -> bool:
    """Return whether the best state that a checkpoint remembers is not the one in `best.ckpt`.

    Args:
        state: The newest checkpoint of a run.
        best_step: The step of `best.ckpt`; `None` if it is missing or damaged.
    """
    if has_no_best(state):
        return False  # nothing was validated yet
    saved = state["callbacks"]["Checkpoints"]
    return best_step is None or saved.get("best_step") not in (None, best_step)


def has_no_best(state: dict[str, Any]) -> bool:
    """Return whether a checkpoint knows of no best state, for example after `forget_lost_best`."""
    return state["callbacks"].get("Checkpoints", {}).get("best_score") is None


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

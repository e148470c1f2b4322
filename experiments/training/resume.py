"""Decide where a run starts: its directory, its checkpoint, and whether the config fits the saved one."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.config.check import load_config
from experiments.config.describe import settings_of
from experiments.config.root import Config
from experiments.errors import UserError
from experiments.training import checkpoint, lightning_adapter, recovery, run_directory
from experiments.training.checkpoint_path import find_checkpoint
from experiments.training.initial_weights import architecture


@dataclass(frozen=True)
class Start:
    """The start of a fit: its directory and its checkpoint."""

    run_dir: Path
    checkpoint: Path | None = None  # the file it continues from; `None` for a new run
    step: int | None = None  # the optimizer step of that checkpoint
    notes: tuple[str, ...] = ()  # lines for the user about this choice
    damaged: tuple[Path, ...] = ()  # files to move aside before the run goes on
    lacks: str | None = None  # the other checkpoint, if it has to become a copy of `checkpoint`
    state: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The content of the checkpoint, so that it is read only once; empty for a new run."""


def find_start(config: Config) -> Start:
    """Choose the directory and the checkpoint from `run_dir` and `resume`.

    Raises:
        UserError: A named checkpoint is missing, damaged or not one of the suite, or the config does not fit
            that of the run.
    """
    if config.resume is None:
        return Start(run_directory.choose(config))
    if config.resume == "auto":
        folder = Path(config.run_dir) if config.run_dir else run_directory.passed_by_rank_zero()
        folder = folder or run_directory.take_unfinished(config)
        if folder is None or not os.path.exists(folder):
            return Start(run_directory.choose(config))
        run_directory.claim(folder)
        start = newest_good(folder)
        if start.checkpoint is None:
            anew = ("no checkpoint is readable: starting a new run",) if start.damaged else ()
            return replace(start, notes=(*start.notes, *anew))
        if config.run_dir is None:
            run_directory.pass_to_ranks(folder)
    else:
        path = Path(config.resume)
        if path.is_dir():
            run_directory.claim(path)
            start = newest_good(path)
            if start.checkpoint is None:
                raise UserError(
                    f"resume={path}: there is no readable checkpoint{''.join(f'; {n}' for n in start.notes)}"
                )
        else:
            state = checkpoint.load(find_checkpoint(path))
            folder = path.resolve().parent.parent
            if not (folder / "config.yaml").exists():
                raise UserError(
                    f"resume={path} is not in a run directory; model.init_from={path} starts a new run"
                    " from its weights"
                )
            run_directory.claim(folder)
            start = Start(folder, path, _step(state, path), state=state)
        if config.run_dir and Path(config.run_dir).resolve() != start.run_dir.resolve():
            raise UserError(
                f"resume={path} continues in {start.run_dir}, not in run_dir={config.run_dir}; remove run_dir"
            )
    check_same(config.plain, _with_defaults(start.state["config"]), start.run_dir)
    if is_finished(config, start) and recovery.has_no_best(start.state):
        raise UserError(
            f"{start.run_dir} is finished and its metrics stay, but its best state is lost: best.ckpt is "
            f"missing or damaged, and last.ckpt holds the later step {start.step}. To use that state, "
            f"rename {start.run_dir / 'metrics.json'} and resume again: the run then tests it"
        )
    if not (start.run_dir / "metrics.json").exists():
        _check_length(config, start.state, start.run_dir)
    return start


def _check_length(config: Config, state: dict[str, Any], run_dir: Path) -> None:
    """Check that the config does not end the run before the point that it has reached."""
    done = {
        "max_epochs": lightning_adapter.epochs_done(state),
        "max_steps": state["global_step"],
    }
    for key, count in done.items():
        asked = getattr(config.trainer, key)
        if asked is not None and asked < count:
            raise UserError(
                f"trainer.{key} = {asked}: {run_dir} has already done {count}; set it to {count} or more"
            )


def is_finished(config: Config, start: Start) -> bool:
    """Return whether a run has its final metrics and the config asks for no more training."""
    if start.checkpoint is None or start.checkpoint.name != "last.ckpt":
        return False
    metrics = start.run_dir / "metrics.json"
    if metrics in start.damaged or not metrics.exists():
        return False
    old = start.state["config"]["trainer"]
    new = config.trainer
    no_longer = (
        (getattr(new, key) or math.inf) <= (old.get(key) or math.inf)
        for key in ("max_epochs", "max_steps", "max_minutes")
    )
    return all(no_longer) and new.early_stopping_patience == old["early_stopping_patience"]


def newest_good(run_dir: Path) -> Start:
    """Return the newest readable checkpoint of a run; damaged ones are noted.

    Raises:
        UnreadableError: The system cannot read a checkpoint now.
    """
    notes: list[str] = []
    damaged: list[Path] = []
    newest: Start | None = None
    best_step: int | None = None
    for name in ("last.ckpt", "best.ckpt"):
        path = run_dir / "checkpoints" / name
        if not checkpoint.exists(path):
            continue
        try:
            state = checkpoint.load(path)
            step = _step(state, path)
        except checkpoint.CheckpointError as error:
            notes.append(f"{error}; skipped")
            damaged.append(path)
            continue
        if name == "best.ckpt":
            best_step = step
        if newest is None or step > (newest.step or 0):
            newest = Start(run_dir, path, step, state=state)
    if newest is None:
        if notes:
            others = ("metrics.csv", "metrics.json", "tensorboard")
            damaged += [run_dir / name for name in others if (run_dir / name).exists()]
        return Start(run_dir, notes=tuple(notes), damaged=tuple(damaged))
    if recovery.is_damaged_json(run_dir / "metrics.json"):
        notes.append(f"{run_dir / 'metrics.json'} is damaged: the run tests again and writes it anew")
        damaged.append(run_dir / "metrics.json")
    lost = recovery.best_is_lost(newest.state, best_step)
    if lost:
        if not os.path.lexists(run_dir / "checkpoints" / "best.ckpt"):
            notes.append(f"there is no {run_dir / 'checkpoints' / 'best.ckpt'}")
        notes.append(recovery.forget_lost_best(newest.state))
    if notes:
        notes.append(f"continuing from {newest.checkpoint}, step {newest.step}")
    lacks = "best.ckpt" if lost and best_step is None else None
    if newest.checkpoint is not None and newest.checkpoint.name == "best.ckpt":
        lacks = "last.ckpt"  # damaged, or older because of a kill between the two files
    return replace(newest, notes=tuple(notes), damaged=tuple(damaged), lacks=lacks)


def _step(state: Mapping[str, Any], path: Path) -> int:
    if "loops" not in state or "global_step" not in state:
        raise checkpoint.CheckpointError(f"{path} holds only weights, so a run cannot resume from it")
    return int(state["global_step"])


def _with_defaults(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a saved config with today's defaults for the settings that it does not have."""
    try:
        return load_config(saved).plain
    except UserError:  # an unknown setting is then reported as a difference
        return saved


def check_same(
    new: Mapping[str, Any],
    saved: Mapping[str, Any],
    run_dir: Path,
    instead: str = "model.init_from=CHECKPOINT starts a new run from its weights",
) -> None:
    """Check that a continued run keeps all settings that its result depends on.

    `instead` is advice for a user who wants the new settings.

    Raises:
        UserError: Settings differ; the message names the first ones with both values.
    """
    free = {setting.key for setting in settings_of(new) if setting.resume == "free"}
    if (new.get("model") or {}).get("init_from") is not None:
        free |= {f"model.{key}" for key in architecture(new["model"]["name"])}  # the saved one goes on
    data = new.get("data") or {}
    if data.get("name") == "chat" and data.get("template") is None:
        free.add("data.template")  # so does the format of conversations
    different = [
        f"{path} = {value!r} (the run has {old!r})"
        for path, value, old in _differences(new, saved)
        if path not in free and not _moved_along(value, old, run_dir)
    ]
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise UserError(
            f"cannot continue {run_dir} with other settings: {'; '.join(different[:3])}{more}; {instead}"
        )


def _moved_along(new: object, old: object, run_dir: Path) -> bool:
    """Return whether two paths are one file of a chain that was moved: the output of another stage."""
    if not isinstance(new, str) or not isinstance(old, str):
        return False
    stage = run_dir.resolve()
    if stage.name.startswith("seed_"):  # the folder of a stage has one folder for each seed
        stage = stage.parent
    chain = stage.parent
    place = Path(new).resolve()
    if not place.is_relative_to(chain) or Path(old).exists():
        return False
    inside = place.relative_to(chain).parts
    return len(inside) > 1 and Path(old).parts[-len(inside) :] == inside


def _differences(new: Any, old: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        for key in {**old, **new}:
            yield from _differences(new.get(key), old.get(key), f"{path}.{key}" if path else str(key))
    elif new != old:
        yield path, new, old

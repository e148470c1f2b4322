"""Where a run continues: which directory, from which checkpoint, and whether the config still fits."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.config.check import load_config
from experiments.config.describe import settings_of
from experiments.config.root import Config
from experiments.errors import UserError
from experiments.training import checkpoint, lightning_adapter, run_directory


@dataclass(frozen=True)
class Start:
    """Where a fit begins.

    Attributes:
        run_dir: Its directory.
        checkpoint: The file it continues from; `None` for a new run.
        step: The optimizer step of that checkpoint.
        notes: What a person should know of the choice.
        state: What the checkpoint holds, so that it is read once; empty for a new run.
    """

    run_dir: Path
    checkpoint: Path | None = None
    step: int | None = None
    notes: tuple[str, ...] = ()
    state: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


def find_start(config: Config) -> Start:
    """Decide by `run_dir` and `resume`.

    Raises:
        UserError: An explicit checkpoint is missing, damaged or foreign, or the config doesn't fit the run's.
    """
    if config.resume is None:
        return Start(run_directory.choose(config))
    if config.resume == "auto":
        folder = Path(config.run_dir) if config.run_dir else run_directory.inherited()
        folder = folder or run_directory.newest_unfinished(config)
        if folder is None or not folder.exists():
            return Start(run_directory.choose(config))
        start = newest_good(folder)
        if start.checkpoint is None:
            return start
        if config.run_dir is None:
            run_directory.bequeath(folder)
    else:
        path = Path(config.resume)
        if path.is_dir():
            start = newest_good(path)
            if start.checkpoint is None:
                raise UserError(
                    f"resume={path}: there is no good checkpoint{''.join(f'; {n}' for n in start.notes)}"
                )
        else:
            state = checkpoint.load(path)
            folder = path.resolve().parent.parent
            if not (folder / "config.yaml").exists():
                raise UserError(
                    f"resume={path} is not in a run directory; model.init_from={path} starts a new run"
                    " from its weights"
                )
            start = Start(folder, path, _step(state, path), state=state)
        if config.run_dir and Path(config.run_dir).resolve() != start.run_dir.resolve():
            raise UserError(
                f"resume={path} continues in {start.run_dir}, not in run_dir={config.run_dir}; "
                "leave run_dir out"
            )
    check_same(config.plain, _with_defaults(start.state["config"]), start.run_dir)
    if not (start.run_dir / "metrics.json").exists():
        _check_length(config, start.state, start.run_dir)
    return start


def _check_length(config: Config, state: dict[str, Any], run_dir: Path) -> None:
    """Refuse to end a run before the point that it has reached, while nothing is written yet."""
    done = {
        "max_epochs": lightning_adapter.epochs_done(state),
        "max_steps": state["global_step"],
    }
    for key, count in done.items():
        asked = getattr(config.trainer, key)
        if asked is not None and asked < count:
            raise UserError(
                f"trainer.{key} = {asked}: {run_dir} has done {count} already; ask for at least that"
            )


def is_finished(config: Config, start: Start) -> bool:
    """Whether a run has its final metrics and the config asks for no more training than it had."""
    if start.checkpoint is None or start.checkpoint.name != "last.ckpt":
        return False
    if not (start.run_dir / "metrics.json").exists():
        return False
    old = start.state["config"]["trainer"]
    new = config.trainer
    no_longer = (
        (getattr(new, key) or math.inf) <= (old.get(key) or math.inf)
        for key in ("max_epochs", "max_steps", "max_minutes")
    )
    return all(no_longer) and new.early_stopping_patience == old["early_stopping_patience"]


def newest_good(run_dir: Path) -> Start:
    """The newest checkpoint of a run that can be read; damaged ones are passed over and noted."""
    notes = []
    last, best = (run_dir / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    newest: Start | None = None
    for path in (last, best):
        if not path.exists() or (newest is not None and path.samefile(last)):
            continue
        try:
            state = checkpoint.load(path)
            step = _step(state, path)
        except checkpoint.CheckpointError as error:
            notes.append(f"{error}; passed over")
            continue
        if newest is None or step > (newest.step or 0):
            newest = Start(run_dir, path, step, state=state)
    if newest is None:
        if notes:
            notes.append("no checkpoint is good: starting anew")
        return Start(run_dir, notes=tuple(notes))
    if notes:
        notes.append(f"continuing from {newest.checkpoint}, step {newest.step}")
    return replace(newest, notes=tuple(notes))


def _step(state: Mapping[str, Any], path: Path) -> int:
    if "loops" not in state or "global_step" not in state:
        raise checkpoint.CheckpointError(f"{path} holds weights only, nothing to resume from")
    return int(state["global_step"])


def _with_defaults(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's config as it reads today: settings that it was too early for have their defaults."""
    try:
        return load_config(saved).plain
    except UserError:  # what isn't known any more is then named as a difference
        return saved


def check_same(
    new: Mapping[str, Any],
    saved: Mapping[str, Any],
    run_dir: Path,
    instead: str = "model.init_from=CHECKPOINT starts a new run from its weights",
) -> None:
    """A continued run keeps its model, data, optimizer and all else that its result depends on.

    Args:
        new: The plain config to continue with.
        saved: The one that the run was started with.
        run_dir: The run.
        instead: What a person can do who wants the new settings.

    Raises:
        UserError: Names the first settings that differ, with both values.
    """
    free = {setting.key for setting in settings_of(new) if setting.resume == "free"}
    different = [
        f"{path} = {value!r} (the run has {old!r})"
        for path, value, old in _differences(new, saved)
        if path not in free
    ]
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise UserError(
            f"can't continue {run_dir} with other settings: {'; '.join(different[:3])}{more}; {instead}"
        )


def _differences(new: Any, old: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        for key in {**old, **new}:
            yield from _differences(new.get(key), old.get(key), f"{path}.{key}" if path else str(key))
    elif new != old:
        yield path, new, old

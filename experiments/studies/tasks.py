"""A stage of a chain that trains nothing: a named piece of work with the stages before it at hand."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.config import registry
from experiments.config.root import Config
from experiments.console import say
from experiments.errors import UserError
from experiments.training import run_directory
from experiments.training.fit import Result

STATES = "states.safetensors"
"""The file of an extracting stage that a later stage's `data.path` means when it names that stage."""


@dataclass(frozen=True)
class Stage:
    """An earlier stage, done: a fit, or a task."""

    config: Config
    run_dir: Path


def check_tasks(chain: Config) -> None:
    """Let each task of a chain look at its settings and at the stages before it, before anything is run.

    Raises:
        UserError: It can't be done with them.
    """
    earlier: dict[str, Config] = {}
    for child in chain.children:
        if (task := child.config.task) is not None:
            try:
                registry.target("task", task.name)(task.config).check(earlier)
            except UserError as error:
                raise UserError(f"stages.{child.path}: {error}") from None
        earlier[child.path] = child.config


def run_task(stage: Config, earlier: Mapping[str, Stage]) -> Result:
    """Do a task in its own directory; one that was done after all stages before it is not done again.

    Args:
        stage: Its config, placed in a directory.
        earlier: The stages before it by name.

    Returns:
        Its metrics and directory.

    Raises:
        UserError: The stages before it don't give what it needs.
    """
    assert stage.task is not None
    assert stage.run_dir is not None
    run_dir = Path(stage.run_dir)
    if _is_newest(run_dir, [stage.run_dir for stage in earlier.values()]):
        say(f"{run_dir} is finished")
        return Result(metrics=run_directory.read_metrics(run_dir), run_dir=run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    run_directory.write_start(run_dir, stage)
    task = registry.target("task", stage.task.name)(stage.task.config)
    try:
        metrics = task.run(earlier, run_dir, say)
    except UserError:
        raise
    except ValueError as error:  # what a model or its data refuses is the config's mistake
        raise UserError(f"{stage.name}: {error}") from error
    show(run_dir)
    run_directory.write_metrics(run_dir, metrics)
    return Result(metrics=metrics, run_dir=run_dir)


def _is_newest(run_dir: Path, others: Iterable[Path]) -> bool:
    """Whether a directory has results, and none of the others has any that came later.

    A chain that is resumed with more epochs trains its networks further, and what was found with them before
    holds no longer.
    """
    result = run_dir / "metrics.json"
    if not result.is_file():
        return False
    finished = result.stat().st_mtime_ns
    results = [other / "metrics.json" for other in others]
    return all(other.is_file() and other.stat().st_mtime_ns <= finished for other in results)


def show(run_dir: Path) -> None:
    """Put the pictures (PNG) and pages (Markdown) that a task has left into the directory's TensorBoard."""
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    from experiments.callbacks.tensorboard import add_picture

    images, pages = sorted(run_dir.glob("*.png")), sorted(run_dir.glob("*.md"))
    if not images and not pages:
        return
    with SummaryWriter(str(run_dir / "tensorboard")) as to:
        for path in images:
            with Image.open(path) as picture:
                add_picture(to, path.stem, picture.convert("RGB"), 0)
        for path in pages:
            to.add_text(path.stem, path.read_text(encoding="utf-8"), 0)

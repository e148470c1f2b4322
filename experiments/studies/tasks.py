"""Tasks: stages of a chain that train no model but work with the results of earlier stages."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from experiments.config import registry
from experiments.config.root import Child, Config
from experiments.console import say
from experiments.errors import UserError, writing
from experiments.training import recovery, run_directory
from experiments.training.fit import Result
from experiments.training.run_directory import nothing_left_if_refused


@dataclass(frozen=True)
class Stage:
    """A stage, a fit or a task, and its run directory."""

    config: Config
    run_dir: Path


class Task(ABC):
    """A kind of task, built from the settings in the section `task` of a stage.

    Args:
        settings: The settings; each kind has its own schema.
    """

    output: ClassVar[str | None] = None
    """Name of the file that a later stage reads with `data.from_stage`; `None` if there is no such file."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def check(self, earlier: Mapping[str, Config]) -> None:
        """Check the settings and the earlier stages before anything runs.

        Raises:
            UserError: The task cannot run after these stages.
        """

    @abstractmethod
    def run(self, stages: Mapping[str, Stage], run_dir: Path, say: Callable[[str], None]) -> dict[str, float]:
        """Do the work, write its files and return the metrics by name.

        Args:
            stages: The earlier stages by name.
            run_dir: The directory of the task.
            say: Shows a line.
        """


def task_output(config: Config) -> str | None:
    """Return the name of the file that a stage writes for `data.from_stage`, if there is one."""
    return None if config.task is None else registry.target("task", config.task.name).output


def by_seed(chain: Config) -> list[dict[str, Child]]:
    """Return the stages of a chain by name, in order, once for each seed."""
    found: dict[str, dict[str, Child]] = {}
    for child in chain.children:
        name, _, seed = child.path.partition("/")
        found.setdefault(seed, {})[name] = child
    return list(found.values())


def check_tasks(chain: Config) -> None:
    """Let each task of a chain check its settings and the earlier stages, before anything runs.

    Raises:
        UserError: A task cannot run.
    """
    for stages in by_seed(chain):
        earlier: dict[str, Config] = {}
        for name, child in stages.items():
            if (task := child.config.task) is not None:
                try:
                    registry.target("task", task.name)(task.config).check(earlier)
                except UserError as error:
                    raise UserError(f"stages.{name}: {error}") from None
            earlier[name] = child.config


def run_task(stage: Config, earlier: Mapping[str, Stage]) -> Result:
    """Run a task in its own directory. Reuse the saved result unless an earlier stage is newer.

    Raises:
        UserError: The task cannot run after these stages.
    """
    assert stage.task is not None
    assert stage.run_dir is not None
    run_dir = Path(stage.run_dir)
    if recovery.is_damaged_json(run_dir / "metrics.json"):
        recovery.set_aside(run_dir / "metrics.json")
    if _is_newest(run_dir, [stage.run_dir for stage in earlier.values()]):
        say(f"{run_dir} is finished")
        return Result(metrics=run_directory.read_metrics(run_dir), run_dir=run_dir)
    if not (run_dir / "config.yaml").exists():  # otherwise, an earlier process started the task
        run_directory.choose(stage)
    with nothing_left_if_refused(run_dir):
        with writing(run_dir):
            run_dir.mkdir(parents=True, exist_ok=True)  # other ranks than zero have not created it
        run_directory.write_start(run_dir, stage)
        task = registry.target("task", stage.task.name)(stage.task.config)
        try:
            metrics = task.run(earlier, run_dir, say)
        except UserError:
            raise
        except ValueError as error:  # a model or its data rejects a setting
            raise UserError(f"{stage.name}: {error}") from error
        show(run_dir)
    run_directory.write_metrics(run_dir, metrics)
    return Result(metrics=metrics, run_dir=run_dir)


def _is_newest(run_dir: Path, others: Iterable[Path]) -> bool:
    """Return whether a directory has results that are newer than those of all other directories.

    A chain that is resumed with more epochs trains its networks further. Results of the earlier networks are
    then out of date.
    """
    result = run_dir / "metrics.json"
    if not result.is_file():
        return False
    finished = result.stat().st_mtime_ns
    results = [other / "metrics.json" for other in others]
    return all(other.is_file() and other.stat().st_mtime_ns <= finished for other in results)


def show(run_dir: Path) -> None:
    """Add the pictures (PNG) and pages (Markdown) of a task to its TensorBoard."""
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    from experiments.callbacks.tensorboard import add_picture

    images, pages = sorted(run_dir.glob("*.png")), sorted(run_dir.glob("*.md"))
    if not images and not pages:
        return
    with writing(run_dir / "tensorboard"), SummaryWriter(str(run_dir / "tensorboard")) as to:
        for path in images:
            with Image.open(path) as picture:
                add_picture(to, path.stem, picture.convert("RGB"), 0)
        for path in pages:
            to.add_text(path.stem, path.read_text(encoding="utf-8"), 0)

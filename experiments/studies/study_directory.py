"""Create the directory of a study or a chain, or find the one to continue."""

from collections.abc import Callable
from pathlib import Path

from experiments.config.check import to_yaml
from experiments.config.root import Config
from experiments.console import say
from experiments.errors import UserError
from experiments.training import run_directory


def open_directory(experiment: Config, check_same: Callable[[Path], None]) -> tuple[Path, bool]:
    """Create the directory, or find the one that `resume` asks for; tell whether it was there before.

    `check_same` is called with a directory to continue and raises UserError if its settings differ.

    Raises:
        UserError: There is nothing to continue in the directory named by `resume`.
    """
    if experiment.resume is not None:
        named = None if experiment.resume == "auto" else Path(experiment.resume)
        folder = named or (
            Path(experiment.run_dir) if experiment.run_dir else run_directory.passed_by_rank_zero()
        )
        folder = folder or run_directory.take_unfinished(experiment)
        if folder is not None and (folder / "config.yaml").exists():
            run_directory.claim(folder)
            check_same(folder)
            if experiment.run_dir is None:
                run_directory.pass_to_ranks(folder)
            if not run_directory.is_worker():
                run_directory.write_text(folder / "config.yaml", to_yaml(experiment.plain))
            say(f"continuing {folder}")
            return folder, True
        if named is not None:
            raise UserError(f"resume={named}: there is no study or chain to continue")
    run_dir = run_directory.choose(experiment)
    if not run_directory.is_worker():
        run_directory.write_start(run_dir, experiment)
    return run_dir, False

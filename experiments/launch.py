"""Read an experiment's sources, decide by its form what to run, and run it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import cli
from experiments.config.check import load_config, to_yaml
from experiments.config.messages import nearest
from experiments.config.root import Config
from experiments.config.sources import is_override, read_override
from experiments.console import say
from experiments.errors import UserError
from experiments.terminal_streams import outlive_terminal
from experiments.training.checkpoint_path import find_checkpoint
from experiments.training.quick_imports import import_lightning
from experiments.training.threads import core_sharing

if TYPE_CHECKING:
    import lightning as L
    from lightning.pytorch.loggers.logger import Logger

    from experiments.training.fit import Result


def load_sources(*sources: str | Path | Mapping[str, Any]) -> Config:
    """Read and check an experiment's sources; `resume=RUN_DIR` alone reads the config of that run."""
    named = [s for s in sources if not isinstance(s, str) or not is_override(s)]
    resumed = [
        str(read_override(s).values["resume"])
        for s in sources
        if isinstance(s, str) and s.startswith("resume=")
    ]
    if not named and resumed and resumed[-1] != "auto":
        path = Path(resumed[-1]).expanduser()
        folder = path if path.is_dir() else find_checkpoint(path).parent.parent
        if not (folder / "config.yaml").is_file():
            raise UserError(f"resume={path}: {folder} holds no run (there is no config.yaml)")
        return load_config(folder / "config.yaml", *sources)
    return load_config(*sources)


def run_config(
    experiment: Config, *, callbacks: Sequence["L.Callback"] = (), loggers: Sequence["Logger"] = ()
) -> "Result":
    """Run a checked experiment: one fit, the stages of a chain, or the fits of a study.

    The user's callbacks and loggers are called after the suite's.

    Raises:
        UserError: `callbacks` or `loggers` are given for a study, which trains in other processes.
    """
    core_sharing.start()
    outlive_terminal()
    if experiment.task is not None:
        raise UserError(f"task {experiment.task.name}: a task is one of the stages of a chain")
    if experiment.form == "fit":
        from experiments.training.fit import fit

        return fit(experiment, callbacks=callbacks, loggers=loggers)
    if (callbacks or loggers) and experiment.form != "stages":
        raise UserError(
            f"{experiment.name} is a study, and its fits run in other processes: register the class and "
            "name it in the section callbacks or loggers"
        )
    from experiments.studies import stages, study
    from experiments.training import initial_weights
    from experiments.training import trainer as trainers

    if experiment.resume is None:  # a fit that continues may have begun on another machine
        for child in experiment.children:
            trainers.check_hardware(child.config.trainer, child.config.model.config)
            if experiment.form != "stages":
                initial_weights.check_named(child.config)

    if experiment.form == "stages":
        return stages.run_stages(experiment, callbacks=callbacks, loggers=loggers)
    if experiment.form == "sweep":
        from experiments.studies import sweep

        return sweep.run_sweep(experiment)
    return study.run_variants(experiment)


@cli.command
def main(arguments: list[str]) -> int | None:
    """Run the command `experiments.run`; see its `--help`."""
    from experiments.config import help as manual

    flags = [a for a in arguments if a.startswith("-")]
    sources = [a for a in arguments if not a.startswith("-")]
    for flag in flags:
        if flag not in ("-h", "--help", "--list", "--print-config", "--dry-run"):
            raise UserError(f"unknown option {flag}{nearest(flag, manual.OPTIONS)}; see --help")
    if "--help" in flags or "-h" in flags:
        print(manual.usage(load_sources(*sources) if sources else None))
        return 0
    if "--list" in flags:
        print(manual.list_configs())
        return 0
    experiment = load_sources(*sources)
    if "--print-config" in flags:
        print(to_yaml(experiment.plain), end="")
        return 0
    outlive_terminal()
    say(_outline(experiment))  # importing torch and Lightning takes seconds
    import_lightning()
    if "--dry-run" in flags:
        from experiments.studies.dry_run import dry_run

        dry_run(experiment)
        return 0
    run_config(experiment)
    return 0


def _outline(experiment: Config) -> str:
    """Describe in one line what an experiment runs."""
    if experiment.form == "stages":
        names = dict.fromkeys(child.path.partition("/")[0] for child in experiment.children)
        seeds = len(experiment.children) // len(names)
        return f"{experiment.name}: stages {', '.join(names)}{f' with {seeds} seeds' * (seeds > 1)}"
    if experiment.form == "sweep":
        sweep = experiment.sweep
        return f"{experiment.name}: sweep over {', '.join(sweep.keys)}, {sweep.method}, {sweep.trials} fits"
    if experiment.form == "variants":
        baselines = f" and {len(experiment.baselines)} baselines" if experiment.baselines else ""
        return f"{experiment.name}: {len(experiment.children)} fits{baselines}"
    return f"{experiment.name}: {experiment.model.name} on {experiment.data.name}"

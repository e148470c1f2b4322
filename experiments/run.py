"""Runs an experiment: config → model and data → fit → test → run directory.

python -m experiments.run CONFIG.yaml [MORE.yaml …] [key.path=value …]
"""

import contextlib
import dataclasses
import logging
import signal
import sys
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import cli
from experiments.config import registry
from experiments.config.check import load_config, to_yaml
from experiments.config.root import Config
from experiments.config.sources import is_override
from experiments.errors import Interrupted, RunError, UserError
from experiments.training import run_directory
from experiments.training.build import build_data, build_model, check_vocabulary, initialise
from experiments.training.machine import peak_memory_mb
from experiments.training.process_state import global_state_kept, quiet_lightning

if TYPE_CHECKING:
    import lightning as L

log = logging.getLogger("experiments")


@dataclass(frozen=True)
class Result:
    """What a run leaves.

    Attributes:
        metrics: Every final metric by its logged name, and `fit_seconds`, `parameters` …; for a study or
            a chain of stages, those of its last fit.
        run_dir: The run directory.
        module: The trained module with its best weights; `None` for a study, whose fits ran elsewhere.
        children: The results of a chain's stages, or the directories of a study's fits, by name.
    """

    metrics: dict[str, float]
    run_dir: Path
    module: "L.LightningModule | None" = None
    children: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def run_sources(*sources: str | Path | Mapping[str, Any], callbacks: Sequence["L.Callback"] = ()) -> Result:
    """Read, check and run one experiment; see `experiments.run`."""
    return run_config(load_sources(*sources), callbacks=callbacks)


def load_sources(*sources: str | Path | Mapping[str, Any]) -> Config:
    """Read and check an experiment's sources; `resume=RUN_DIR` alone stands for that run's own config."""
    named = [s for s in sources if not isinstance(s, str) or not is_override(s)]
    resumed = [s.partition("=")[2] for s in sources if isinstance(s, str) and s.startswith("resume=")]
    if not named and resumed and resumed[-1] != "auto":
        path = Path(resumed[-1])
        folder = path if path.is_dir() else path.parent.parent
        if not (folder / "config.yaml").is_file():
            raise UserError(f"resume={path}: {folder} holds no run (there is no config.yaml)")
        return load_config(folder / "config.yaml", *sources)
    return load_config(*sources)


def run_config(experiment: Config, *, callbacks: Sequence["L.Callback"] = ()) -> Result:
    """Run a checked experiment in whichever of its three forms it has.

    Args:
        experiment: The checked config.
        callbacks: Own callbacks beside the suite's.

    Raises:
        UserError: Callbacks are given for several fits, which run in processes of their own or one by one.
    """
    if experiment.task is not None:
        raise UserError(f"task {experiment.task.name}: a task is one of the stages of a chain")
    if experiment.form == "fit":
        return fit(experiment, callbacks=callbacks)
    if callbacks:
        raise UserError(f"callbacks go with a single fit; {experiment.name} has {experiment.form}")
    from experiments.studies import study
    from experiments.training import trainer as trainers

    for child in experiment.children:
        trainers.check_hardware(child.config.trainer)

    return study.run_stages(experiment) if experiment.form == "stages" else study.run_variants(experiment)


def fit(experiment: Config, *, callbacks: Sequence["L.Callback"] = ()) -> Result:
    """Train, choose by validation, test once, and leave a run directory.

    Args:
        experiment: A checked config of the form `fit`.
        callbacks: Own callbacks beside the suite's.

    Raises:
        UserError: The config asks for what this machine, the data or the model can't give.
        RunError: Training failed for a reason that one line explains.
        Interrupted: A signal stopped training; the state is saved.
    """
    import lightning as L

    from experiments.callbacks.checkpoints import Checkpoints
    from experiments.callbacks.exact_resume import ExactResume
    from experiments.callbacks.summary import parameter_count
    from experiments.callbacks.tensorboard import log_hyperparameters
    from experiments.callbacks.training_curve import TrainingCurve
    from experiments.training import resume
    from experiments.training import trainer as trainers
    from experiments.training.checkpoint import AtomicCheckpointIO

    trainers.check_hardware(experiment.trainer)
    init_from = getattr(experiment.model.config, "init_from", None)
    if init_from is not None and experiment.resume is None:
        cli.find_checkpoint(init_from)  # a missing one stops the run before it has a directory
    start = resume.find_start(experiment)
    run_dir = start.run_dir
    if resume.is_finished(experiment, start):
        return _finished(run_dir)
    if start.checkpoint is None and not run_directory.is_worker():
        run_directory.write_start(run_dir, experiment)
    with _recorded(run_dir), global_state_kept():
        for note in start.notes:
            say(note)
        if start.checkpoint is not None:
            say(f"continuing {run_dir} from {start.checkpoint.name}, step {start.step}")
        settings, notes = trainers.settle(experiment.trainer, start.state.get("resolved", {}))
        for note in notes:
            say(note)
        how = trainers.resolved(settings)
        say(f"run directory {run_dir} · {how['accelerator']}, {how['precision']}")
        L.seed_everything(experiment.seed, workers=True, verbose=False)
        datamodule = build_data(experiment)
        io = AtomicCheckpointIO()
        if start.checkpoint is not None:
            check_vocabulary(start.state, datamodule.info, start.checkpoint)
            if not run_directory.is_worker():
                run_directory.write_continuation(run_dir, experiment)
            io = AtomicCheckpointIO({start.checkpoint: start.state})
            start = dataclasses.replace(start, state={})  # so that it goes once it is taken up
        module = build_model(experiment, datamodule.info)
        if start.checkpoint is None and init_from is not None:
            say(initialise(module, cli.find_checkpoint(init_from)))
        exact = ExactResume(experiment.plain, datamodule.info.to_dict(), how)
        trainer = trainers.build_trainer(
            settings,
            run_dir=run_dir,
            dashboard=getattr(module, "dashboard", None),
            resume=exact,
            resumed_step=start.step,
            checkpoint_io=io,
            more=callbacks,
        )
        if settings.compile:
            getattr(module, "network", module).compile()
        with _signals_named(run_dir):
            trainer.fit(
                module,
                datamodule=datamodule,
                ckpt_path=None if start.checkpoint is None else str(start.checkpoint),
                weights_only=True,
            )
        checkpoints = next(c for c in trainer.callbacks if isinstance(c, Checkpoints))  # type: ignore[attr-defined]
        if not checkpoints.best.exists():
            raise RunError(f"training ended without a validated checkpoint in {checkpoints.folder}")
        with _signals_named(run_dir):
            trainer.test(
                module,
                datamodule=datamodule,
                ckpt_path=str(checkpoints.best),
                weights_only=True,
                verbose=False,
            )
        curve = next(c for c in trainer.callbacks if isinstance(c, TrainingCurve))  # type: ignore[attr-defined]
        metrics = {
            **checkpoints.best_metrics,
            **{k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("test")},
            "epochs": float(trainer.current_epoch),
            "steps": float(trainer.global_step),
            "fit_seconds": exact.fit_seconds,
            **curve.throughput(module),
            "peak_memory_mb": peak_memory_mb(),
            "parameters": float(parameter_count(module)),
        }
        if trainer.is_global_zero:
            run_directory.write_metrics(run_dir, metrics)
            log_hyperparameters(trainer, experiment.plain, metrics)
            _conclude(metrics, run_dir)
    return Result(metrics=metrics, run_dir=run_dir, module=module)


def say(text: str) -> None:
    """Tell the person and the log, once for all ranks."""
    if not run_directory.is_worker():
        print(text, flush=True)
    log.info(text)


def _conclude(metrics: Mapping[str, float], run_dir: Path) -> None:
    from rich.table import Table

    table = Table("test metric", "value")
    for key, value in metrics.items():
        if key.startswith("test/"):
            table.add_row(key, f"{value:.4f}")
    table.add_row("fit_seconds", f"{metrics['fit_seconds']:.1f}")
    cli.console().print(table)
    say(f"run directory: {run_dir}\ndashboard:     tensorboard --logdir {run_dir}")


def _finished(run_dir: Path) -> Result:
    """What a finished run gave, without running it again."""
    from experiments.training import checkpoint
    from experiments.training.build import restore

    say(f"{run_dir} is finished; a longer trainer.max_epochs, max_steps or max_minutes extends it")
    metrics = run_directory.read_metrics(run_dir)
    best = run_dir / "checkpoints" / "best.ckpt"
    module = restore(checkpoint.load(best), best).module
    if not run_directory.is_worker():
        _conclude(metrics, run_dir)
    return Result(metrics=metrics, run_dir=run_dir, module=module)


@contextlib.contextmanager
def _signals_named(run_dir: Path) -> Iterator[None]:
    """Undo what Lightning makes of signals that come where training isn't: in set-up and in the test."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    try:
        yield
    except SystemExit as error:
        last = run_dir / "checkpoints" / "last.ckpt"
        signum = signal.SIGTERM if isinstance(error, SIGTERMException) else signal.SIGINT
        raise Interrupted(signum, run_dir, last if last.exists() else None) from error


@contextlib.contextmanager
def _recorded(run_dir: Path) -> Iterator[None]:
    """Write log records, warnings and any traceback to `run.log` for the time of a run."""
    if run_directory.is_worker():
        with quiet_lightning():
            yield
        return
    handler = logging.FileHandler(run_dir / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)  # assigning it would leave what the logger has cached
    try:
        with quiet_lightning():
            log.info("command: %s", " ".join(sys.argv))
            started = time.perf_counter()
            yield
            log.info("done in %.1f s", time.perf_counter() - started)
    except (Exception, KeyboardInterrupt, Interrupted):
        log.exception("the run ended early")
        raise
    finally:
        log.setLevel(level)
        root.removeHandler(handler)
        handler.close()


@cli.command
def main(arguments: list[str]) -> int | None:
    """The command line: see `--help`."""
    from experiments.config import help as manual

    flags = [a for a in arguments if a.startswith("-")]
    sources = [a for a in arguments if not a.startswith("-")]
    for flag in flags:
        if flag not in ("-h", "--help", "--list", "--print-config", "--dry-run"):
            raise UserError(f"unknown option {flag}{registry.nearest(flag, manual.OPTIONS)}; see --help")
    if "--help" in flags or "-h" in flags:
        print(manual.usage(load_config(*sources) if sources else None))
        return 0
    if "--list" in flags:
        print(manual.list_configs())
        return 0
    experiment = load_sources(*sources)
    if "--print-config" in flags:
        print(to_yaml(experiment.plain), end="")
        return 0
    if "--dry-run" in flags:
        from experiments.training.dry_run import dry_run

        dry_run(experiment)
        return 0
    run_config(experiment)
    return 0


class _CallableModule(types.ModuleType):
    """Importing this module puts it where the package had the function `run`: it has to act as both."""

    def __call__(
        self, *sources: str | Path | Mapping[str, Any], callbacks: Sequence["L.Callback"] = ()
    ) -> Result:
        return run_sources(*sources, callbacks=callbacks)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    sys.exit(main(None))

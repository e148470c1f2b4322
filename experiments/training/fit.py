"""One fit, in five steps: prepare → build → train → test → record."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
from lightning.pytorch.loggers.logger import Logger
from rich.table import Table

from experiments.callbacks.checkpoints import Checkpoints
from experiments.callbacks.exact_resume import ExactResume
from experiments.callbacks.summary import parameter_count
from experiments.callbacks.tensorboard import log_hyperparameters
from experiments.callbacks.training_curve import TrainingCurve
from experiments.config.describe import values_set
from experiments.config.root import Config
from experiments.console import print_table, recorded, say, tensorboard_command
from experiments.errors import RunError
from experiments.training import adapters, checkpoint, initial_weights, recovery, resume, run_directory
from experiments.training import trainer as trainers
from experiments.training.build import build_data, build_model, compile_network, create_all, restore
from experiments.training.checkpoint import AtomicCheckpointIO
from experiments.training.fit_checks import check_batches, check_memory, lacks
from experiments.training.initial_weights import InitialWeights, init_from
from experiments.training.lightning_adapter import exits_named, log_no_hyperparameters
from experiments.training.lost_ranks import lost_ranks_named
from experiments.training.machine import peak_memory_mb
from experiments.training.resume import Start
from experiments.training.run_directory import nothing_left_if_refused
from experiments.training.run_lock import claims_end
from experiments.training.teacher import give_teacher
from experiments.training.vocabulary import check_vocabulary

SomeCallback = TypeVar("SomeCallback", bound=L.Callback)


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        metrics: Every final metric by its logged name, and `fit_seconds`, `parameters` and so on. For
            stages, the metrics of the last stage. For a study, and for stages with seeds, the means of the
            table as `<variant>/<metric>`, and `<variant>/<metric>/std` over several seeds.
        run_dir: The run directory.
        module: The trained module with its best weights, in evaluation mode; `None` where the result
            is a table.
        children: The results of the stages, or the directories of a study's fits, by name.
    """

    metrics: dict[str, float]
    run_dir: Path
    module: L.LightningModule | None = None
    children: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of one fit, as `build` puts them together."""

    datamodule: L.LightningDataModule
    module: L.LightningModule
    trainer: L.Trainer

    def callback(self, kind: type[SomeCallback]) -> SomeCallback:
        """Return the Trainer's callback of this class."""
        return next(c for c in self.trainer.callbacks if isinstance(c, kind))  # type: ignore[attr-defined]


def fit(
    experiment: Config, *, callbacks: Sequence[L.Callback] = (), loggers: Sequence[Logger] = ()
) -> Result:
    """Train, choose the best epoch by validation, test once, and write a run directory.

    Own callbacks and loggers, those of the config first, are called after the suite's.

    Raises:
        UserError: The config does not fit this machine, the data or the model.
        RunError: Training failed for a reason that one line explains.
        Interrupted: A signal stopped training; the state is saved.
    """
    with claims_end():
        start = prepare(experiment)
        if resume.is_finished(experiment, start):
            return finished(start.run_dir)
        with (
            nothing_left_if_refused(start.run_dir),
            recorded(start.run_dir),
            trainers.global_state_kept(),
            lost_ranks_named(),
        ):
            experiment, initial = _with_initial_weights(experiment, start)
            parts = build(experiment, start, initial, callbacks, loggers)
            train(parts, start)
            test(parts, start)
            metrics = record(parts, experiment, start.run_dir)
    return Result(metrics=metrics, run_dir=start.run_dir, module=parts.module.eval())


def prepare(experiment: Config) -> Start:
    """Check the hardware, decide where the fit begins, and claim the run directory."""
    if experiment.resume is None:
        trainers.check_hardware(experiment.trainer, experiment.model.config)
    if experiment.resume is None:
        initial_weights.check_named(experiment)  # a missing file stops the run before it has a directory
    start = resume.find_start(experiment)
    with nothing_left_if_refused(start.run_dir):
        if start.checkpoint is not None:  # the run may have begun on another machine
            trainers.check_hardware(trainers.at_hand(experiment.trainer)[0], experiment.model.config)
        elif experiment.resume is not None:
            trainers.check_hardware(experiment.trainer, experiment.model.config)
    if not run_directory.is_worker():
        for path in start.damaged:
            recovery.set_aside(path)
        if start.checkpoint is not None and start.lacks is not None:
            recovery.copy_file(start.checkpoint, start.checkpoint.with_name(start.lacks))
    return start


def build(
    experiment: Config,
    start: Start,
    initial: InitialWeights | None,
    callbacks: Sequence[L.Callback],
    loggers: Sequence[Logger],
) -> Parts:
    """Seed, then build the data, the model and the Trainer; a resumed run continues its checkpoint."""
    for note in start.notes:
        say(note)
    if start.checkpoint is not None:
        say(f"continuing {start.run_dir} from {start.checkpoint.name}, step {start.step}")
    settings, notes = trainers.settle(experiment.trainer, start.state.get("resolved", {}))
    for note in notes:
        say(note)
    how = trainers.resolved(settings)
    say(f"run directory {start.run_dir} · {how['accelerator']}, {how['precision']}")
    L.seed_everything(experiment.seed, workers=True, verbose=False)
    datamodule = build_data(experiment, _tokenizer(experiment, start, initial))
    io = AtomicCheckpointIO()
    if start.checkpoint is not None:
        check_vocabulary(start.state, datamodule.info, start.checkpoint)
        io = AtomicCheckpointIO({start.checkpoint: dict(start.state)})
        start.state.clear()  # `io` has the only copy and drops it once the Trainer has loaded it
    check_memory(experiment, datamodule)
    module = build_model(experiment, datamodule.info)
    for line in adapters.start_from(module, experiment, initial):
        say(line)
    own_loggers = [*create_all("logger", experiment.loggers).values(), *loggers]
    give_teacher(module)
    trainer = trainers.build_trainer(
        settings,
        run_dir=start.run_dir,
        dashboard=getattr(module, "dashboard", None),
        resume=ExactResume(experiment.plain, datamodule.info.to_dict(), how),
        resumed_step=start.step,
        checkpoint_io=io,
        more=[*create_all("callback", experiment.callbacks).values(), *callbacks],
        more_loggers=own_loggers,
    )
    for part in (module, datamodule):
        log_no_hyperparameters(part)
    check_batches(datamodule, module, trainer, settings.limit_train_batches)
    compile_network(module, settings.compile)
    if isinstance(settings.compile, str):  # with CUDA graphs
        from experiments.training.step_graph import replay_steps

        replay_steps(module, datamodule, trainer)
    if not run_directory.is_worker():  # all checks have passed
        write = run_directory.write_start if start.checkpoint is None else run_directory.write_continuation
        write(start.run_dir, experiment)
    for logger in own_loggers:
        logger.log_hyperparams(experiment.plain)
    return Parts(datamodule=datamodule, module=module, trainer=trainer)


def train(parts: Parts, start: Start) -> None:
    """Train from the start or from the checkpoint.

    Raises:
        RunError: Training ended before any validation.
    """
    path = None if start.checkpoint is None else str(start.checkpoint)
    with exits_named(start.run_dir):
        parts.trainer.fit(parts.module, datamodule=parts.datamodule, ckpt_path=path, weights_only=True)
    checkpoints = parts.callback(Checkpoints)
    if not checkpoints.best.exists():
        raise RunError(f"training ended without a validated checkpoint in {checkpoints.folder}")
    if not checkpoints.best_metrics:  # the best state was lost, and the fit had ended
        (measured,) = parts.trainer.validate(parts.module, datamodule=parts.datamodule, verbose=False)
        checkpoints.adopt_last(parts.trainer, measured)


def test(parts: Parts, start: Start) -> None:
    """Read the test split once, with the best weights; a plain module may have no test."""
    best = parts.callback(Checkpoints).best
    if lacking := lacks(parts.module, "test_step") + lacks(parts.datamodule, "test_dataloader"):
        say(f"there is no {' and no '.join(lacking)}: no test")
        parts.module.load_state_dict(checkpoint.load(best)["state_dict"])
        return
    with exits_named(start.run_dir):
        parts.trainer.test(
            parts.module, datamodule=parts.datamodule, ckpt_path=str(best), weights_only=True, verbose=False
        )


def record(parts: Parts, experiment: Config, run_dir: Path) -> dict[str, float]:
    """Write the final metrics to the run directory and print them."""
    trainer = parts.trainer
    metrics = {
        **parts.callback(Checkpoints).best_metrics,
        **{k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("test")},
        "epochs": float(trainer.current_epoch),
        "steps": float(trainer.global_step),
        "fit_seconds": parts.callback(ExactResume).fit_seconds,
        **parts.callback(TrainingCurve).throughput(parts.module),
        "peak_memory_mb": peak_memory_mb(),
        "parameters": float(parameter_count(parts.module)),
    }
    if experiment.adapter is not None:
        metrics["trained_parameters"] = float(parameter_count(parts.module, trainable_only=True))
    if trainer.is_global_zero:
        run_directory.write_metrics(run_dir, metrics)
        if experiment.adapter is not None:
            adapters.save(run_dir / "adapter", parts.module, experiment)
        log_hyperparameters(trainer, values_set(experiment.plain), metrics)
        _print(metrics, run_dir)
        if note := getattr(parts.module, "progress_note", str)():
            say(note)
    return metrics


def finished(run_dir: Path) -> Result:
    """Return the result of a finished run without running it again."""
    say(f"{run_dir} is finished; a longer trainer.max_epochs, max_steps or max_minutes extends it")
    metrics = run_directory.read_metrics(run_dir)
    best = run_dir / "checkpoints" / "best.ckpt"
    module = restore(checkpoint.load(best), best).module
    if not run_directory.is_worker():
        _print(metrics, run_dir)
    return Result(metrics=metrics, run_dir=run_dir, module=module)


def _with_initial_weights(experiment: Config, start: Start) -> tuple[Config, InitialWeights | None]:
    """Return the config with what its initial weights fix, and the weights if the run needs them.

    A resumed run has all this in its checkpoint, except the frozen weights of an adapter.
    """
    if start.checkpoint is not None:
        saved = start.state["config"]["data"].get("template")
        experiment = initial_weights.with_chat_template(experiment, saved)
    name = init_from(experiment)
    if name is None:
        return experiment, None
    if experiment.adapter is not None:
        return adapters.with_base(experiment, start)
    if start.checkpoint is not None:
        return initial_weights.with_architecture_of(experiment, start.state["config"]["model"]), None
    initial = initial_weights.read(name, experiment)
    return initial_weights.completed(experiment, initial), initial


def _tokenizer(experiment: Config, start: Start, initial: InitialWeights | None) -> Mapping[str, Any] | None:
    """Return the vocabulary of the initial weights; a resumed run has it in its checkpoint."""
    if start.checkpoint is not None and init_from(experiment) is not None:
        return start.state["info"].get("tokenizer")
    return None if initial is None else initial.tokenizer


def _print(metrics: Mapping[str, float], run_dir: Path) -> None:
    table = Table("test metric", "value")
    for key, value in metrics.items():
        if key.startswith("test"):
            table.add_row(key, f"{value:.4f}")
    table.add_row("fit_seconds", f"{metrics['fit_seconds']:.1f}")
    print_table(table)
    say(f"run directory: {run_dir}\ndashboard:     {tensorboard_command(run_dir)}")

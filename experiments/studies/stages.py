"""Run the `stages` of a chain one after the other: fits and tasks that use the results of earlier stages."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers.logger import Logger

from experiments.config.check import load_config
from experiments.config.root import Config
from experiments.console import print_table, say, tensorboard_command
from experiments.errors import Interrupted, UserError
from experiments.studies.compare_runs import compare_runs
from experiments.studies.study_directory import open_directory
from experiments.studies.tasks import Stage, by_seed, check_tasks, run_task, task_output
from experiments.training import initial_weights, resume, run_directory
from experiments.training.fit import Result, fit
from experiments.training.run_directory import nothing_left_if_refused
from experiments.training.run_lock import claims_end


def run_stages(
    experiment: Config, *, callbacks: Sequence[L.Callback] = (), loggers: Sequence[Logger] = ()
) -> Result:
    """Run the fits and tasks of a chain in order.

    `model.init_from`, `objective.teacher` and `data.from_stage` of a fit may name an earlier stage. Each fit
    gets the user's callbacks and loggers. With `seeds`, all stages run once for each seed, and a table
    compares them.

    Raises:
        UserError: A fit uses a stage that does not come before it, or the settings of a resumed chain differ.
        Interrupted: A signal stopped the chain; `resume` continues it.
    """
    check_order(experiment)
    check_tasks(experiment)
    with claims_end():
        run_dir, resumed = open_directory(experiment, lambda folder: _check_same(experiment, folder))
        with nothing_left_if_refused(run_dir):
            return _run_in(experiment, run_dir, resumed, callbacks, loggers)


def _run_in(
    experiment: Config,
    run_dir: Path,
    resumed: bool,
    callbacks: Sequence[L.Callback],
    loggers: Sequence[Logger],
) -> Result:
    """Run the stages in the directory of the chain, seed by seed."""
    done: dict[str, Result] = {}
    for stages in by_seed(experiment):
        earlier: dict[str, Stage] = {}
        for name, child in stages.items():
            say(f"stage {child.path}")
            config = dataclasses.replace(
                _with_data(child.config, earlier),
                run_dir=str(run_dir / child.path),
                resume="auto" if resumed else None,
            )
            try:
                if config.task is None:
                    weighted = _with_weights(config, earlier)
                    done[child.path] = fit(weighted, callbacks=callbacks, loggers=loggers)
                else:
                    done[child.path] = run_task(config, earlier)
            except Interrupted as error:
                raise Interrupted(error.signum, run_dir, error.path) from None
            earlier[name] = Stage(config, run_dir / child.path)
    where = f"directory of all stages: {run_dir}\ndashboard:               {tensorboard_command(run_dir)}"
    if experiment.is_compared:
        metrics = {} if run_directory.is_worker() else _compare(experiment, run_dir, list(done))
        say(where)
        return Result(metrics=metrics, run_dir=run_dir, children=done)
    last = done[experiment.children[-1].path]
    metrics = {
        f"{name}/{key}": value for name, result in done.items() for key, value in result.metrics.items()
    }
    if not run_directory.is_worker():
        run_directory.write_metrics(run_dir, {**metrics, **last.metrics})
    say(where)
    return Result(metrics=last.metrics, run_dir=run_dir, module=last.module, children=done)


def _compare(experiment: Config, run_dir: Path, paths: Sequence[str]) -> dict[str, float]:
    """Compare the stages over the seeds, and return the means."""
    comparison = compare_runs([run_dir / path for path in paths], run_dir, experiment.comparison)
    print_table(comparison.table())
    return comparison.means()


def check_order(experiment: Config) -> None:
    """Check the stages that the fits of a chain name.

    Raises:
        UserError: A fit uses its own stage, a later stage, or a stage without the file that it needs.
    """
    for stages in by_seed(experiment):
        _check_order({name: child.config for name, child in stages.items()})


def _check_order(configs: Mapping[str, Config]) -> None:
    for position, (name, config) in enumerate(configs.items()):
        if config.task is not None:
            continue
        earlier = list(configs)[:position]
        from_stage, path = _from_stage(config), _path(config)
        for key, named in initial_weights.named_files(config).items():
            if named in configs and named not in earlier:
                raise UserError(f"stages.{name}.{key} = {named!r}: that stage does not come before {name}")
            if named in configs and configs[named].task is not None:
                raise UserError(
                    f"stages.{name}.{key} = {named!r}: that stage is a task and has no checkpoint"
                )
        initial_weights.check_named(config, stages=configs)
        if path is not None and path in configs and not Path(path).exists():
            raise UserError(f"stages.{name}.data.path = {path!r} is a stage; write data.from_stage: {path}")
        if from_stage is None:
            continue
        known = [other for other in earlier if task_output(configs[other])]
        if from_stage not in known:
            raise UserError(
                f"stages.{name}.data.from_stage = {from_stage!r}: not an earlier stage that writes data; "
                f"allowed: {', '.join(known) or 'none'}"
            )


def _check_same(experiment: Config, folder: Path) -> None:
    """Refuse to continue a chain with other settings of its fits or of its finished tasks."""
    for children in by_seed(experiment):
        stages = {name: Stage(child.config, folder / child.path) for name, child in children.items()}
        for stage in stages.values():
            # An unfinished task starts again, so its settings may differ.
            file = "config.yaml" if stage.config.task is None else "metrics.json"
            if (stage.run_dir / file).exists():
                config = _with_data(stage.config, stages)
                saved = load_config(stage.run_dir / "config.yaml")
                resume.check_same(config.plain, saved.plain, stage.run_dir)


def _with_data(config: Config, stages: Mapping[str, Stage]) -> Config:
    """Replace `data.from_stage` of a fit by the path of the file that the stage writes."""
    named = _from_stage(config)
    if config.task is not None or named is None:
        return config
    stage = stages[named]
    file = task_output(stage.config)
    assert file is not None  # checked by `check_order`
    return load_config(config.plain, {"data.path": str(stage.run_dir / file), "data.from_stage": None})


def _with_weights(config: Config, stages: Mapping[str, Stage]) -> Config:
    """Replace each setting that names a stage, as `model.init_from` may, by the best checkpoint of it."""
    files = {
        key: str(stages[name].run_dir / "checkpoints" / "best.ckpt")
        for key, name in initial_weights.named_files(config).items()
        if name in stages
    }
    if not files:
        return config
    place = {key: value for key in ("run_dir", "resume") if (value := getattr(config, key)) is not None}
    return load_config(config.plain, {**files, **place})


def _from_stage(config: Config) -> str | None:
    return getattr(config.data.config, "from_stage", None)


def _path(config: Config) -> str | None:
    return getattr(config.data.config, "path", None)

"""The two forms that hold several fits: a chain of ``stages``, and a study of ``variants`` × ``seeds``.

Each fit of a study runs in a process of its own, so that one that fails or leaks takes nothing with it.
"""

import dataclasses
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments import cli, compare, config, run_directory
from experiments.config import Child, Config
from experiments.errors import Interrupted, RunError, UserError
from experiments.run import Result, build_data, fit, say


def run_stages(experiment: Config) -> Result:
    """Run a chain's fits in order; ``model.init_from`` may name an earlier stage.

    Raises:
        UserError: A stage starts from one that doesn't come before it.
    """
    run_dir, resumed = _directory(experiment)
    done: dict[str, Result] = {}
    for child in experiment.children:
        say(f"stage {child.path}")
        stage = _placed(child, run_dir, resumed)
        source = getattr(stage.model.config, "init_from", None)
        stages = [c.path for c in experiment.children]
        if source in stages:
            if source not in done:
                raise UserError(
                    f"stages.{child.path}.model.init_from = {source!r}: that stage has not run before it"
                )
            best = str(done[source].run_dir / "checkpoints" / "best.ckpt")
            stage = config.load(stage.plain, {"model.init_from": best, **_place(stage)})
        finished = Path(str(stage.run_dir)) / "metrics.json"
        if resumed and finished.exists():
            metrics = run_directory.read_metrics(finished.parent)
            done[child.path] = Result(metrics=metrics, run_dir=finished.parent)
            say(f"stage {child.path} is finished already")
            continue
        done[child.path] = fit(stage)
    last = list(done.values())[-1]
    metrics = {f"{name}/{k}": v for name, result in done.items() for k, v in result.metrics.items()}
    run_directory.write_metrics(run_dir, {**metrics, **last.metrics})
    return Result(metrics=last.metrics, run_dir=run_dir, module=last.module, children=done)


def run_variants(experiment: Config) -> Result:
    """Run every variant with every seed and the baselines, then compare them.

    A fit that fails is listed as failed and the others go on.

    Raises:
        RunError: Not one of them finished.
        Interrupted, KeyboardInterrupt: A signal stopped the study; ``resume=auto`` takes it up again.
    """
    run_dir, resumed = _directory(experiment)
    failed: list[str] = []
    jobs: list[tuple[str, Callable[..., None], Any]] = [
        (
            name,
            _run_baseline,
            (dataclasses.asdict(section.config), section.name, experiment.children[0].config.plain),
        )
        for name, section in experiment.baselines.items()
    ]
    jobs += [(c.path, _run_child, (c.config.plain, resumed)) for c in experiment.children]
    for number, (path, job, arguments) in enumerate(jobs, 1):
        folder = run_dir / path
        if resumed and (folder / "metrics.json").exists():
            say(f"[{number}/{len(jobs)}] {path} is finished already")
            continue
        say(f"[{number}/{len(jobs)}] {path}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failed.json").unlink(missing_ok=True)
        status = _in_own_process(job, (str(folder), *arguments))
        if status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            say(f"the study continues with\n  python -m experiments.run resume={run_dir}")
            raise Interrupted(status - 128, folder / "checkpoints" / "last.ckpt")
        if status != 0:
            failed.append(path)
            run_directory.write_text(folder / "failed.json", f'{{"exit_status": {status}}}\n')
            say(f"{path} failed with exit status {status}; see {folder / 'run.log'}")
    if len(failed) == len(jobs):
        raise RunError(f"none of the {len(jobs)} fits finished; see {run_dir}")
    folders = [run_dir / path for path, _, _ in jobs]
    cli.console().print(compare.compare(folders, run_dir).table())
    say(f"study directory: {run_dir}\ndashboard:       tensorboard --logdir {run_dir}")
    finished = {path: run_dir / path for path, _, _ in jobs if path not in failed}
    return Result(metrics={}, run_dir=run_dir, children=finished)


def _directory(experiment: Config) -> tuple[Path, bool]:
    """The directory of a study or chain, and whether it continues an earlier one."""
    if experiment.resume is not None:
        named = None if experiment.resume == "auto" else Path(experiment.resume)
        folder = named or (Path(experiment.run_dir) if experiment.run_dir else None)
        folder = folder or run_directory.newest_unfinished(experiment.name)
        if folder is not None and (folder / "config.yaml").exists():
            return folder, True
        if named is not None:
            raise UserError(f"resume={named}: there is no study or chain to continue")
    run_dir = run_directory.choose(experiment)
    run_directory.write_start(run_dir, experiment)
    return run_dir, False


def _place(stage: Config) -> dict[str, Any]:
    return {k: v for k, v in (("run_dir", stage.run_dir), ("resume", stage.resume)) if v is not None}


def _placed(child: Child, run_dir: Path, resumed: bool) -> Config:
    return dataclasses.replace(
        child.config, run_dir=str(run_dir / child.path), resume="auto" if resumed else None
    )


def _in_own_process(job: Callable[..., None], arguments: tuple[Any, ...]) -> int:
    """Run a function in a fresh interpreter and pass signals on to it; return its exit status."""
    process = multiprocessing.get_context("spawn").Process(target=job, args=arguments)

    def forward(signum: int, frame: Any) -> None:
        if process.is_alive():
            os.kill(process.pid or 0, signum)

    previous = {s: signal.signal(s, forward) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        process.start()
        process.join()
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    code = process.exitcode or 0
    return 128 - code if code < 0 else code  # a child that a signal killed has minus its number


def _run_child(folder: str, plain: Mapping[str, Any], resumed: bool) -> None:
    place = {"run_dir": folder, **({"resume": "auto"} if resumed else {})}
    # Lightning starts further ranks by the command line it finds: it must name this fit, not the study.
    path = Path(folder) / "config.yaml"
    run_directory.write_text(path.with_name("study.yaml"), config.to_yaml(plain))
    sys.argv = [sys.argv[0], str(path.with_name("study.yaml")), *(f"{k}={v}" for k, v in place.items())]

    def main(_: list[str]) -> None:
        fit(config.load(plain, place))

    sys.exit(cli.command(main)([]))


def _run_baseline(folder: str, values: Mapping[str, Any], name: str, plain: Mapping[str, Any]) -> None:
    def main(_: list[str]) -> None:
        from experiments import catalog
        from experiments.baselines import run_baseline

        experiment = config.load(plain)
        settings = catalog.schema("baseline", name)(**values)
        metrics = run_baseline(settings, build_data(experiment), experiment.seed)
        path = Path(folder)
        run_directory.write_text(
            path / "config.yaml", config.to_yaml({"name": name, "baseline": dict(values)})
        )
        run_directory.write_metrics(path, metrics)

    sys.exit(cli.command(main)([]))

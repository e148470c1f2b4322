"""The two forms that hold several fits: a chain of `stages`, and a study of `variants` × `seeds`.

Each fit of a study runs in a process of its own, so that one that fails or leaks takes nothing with it. On
Linux these are forked from a server that has imported the libraries and computed nothing, which saves each
of them the seconds that the imports take; elsewhere they are fresh interpreters.
"""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import cli, compare
from experiments.config.check import load_config, to_yaml
from experiments.config.root import Child, Config
from experiments.config.sources import read_file
from experiments.console import console, say
from experiments.errors import Interrupted, RunError, UserError
from experiments.studies.tasks import STATES, Stage, check_tasks, run_task
from experiments.training import resume, run_directory
from experiments.training.build import build_data
from experiments.training.fit import Result, fit

_PRELOADED = ["experiments.training.fit", "torchmetrics", "torch.utils.tensorboard"]
"""What the server of a study's processes imports before it forks them."""


def run_stages(experiment: Config) -> Result:
    """Run a chain's fits and tasks in order; `model.init_from` and `data.path` may name an earlier stage.

    Raises:
        UserError: A stage starts from one that doesn't come before it, or a resumed chain's settings differ.
    """
    names = [child.path for child in experiment.children]
    for position, child in enumerate(experiment.children):
        for key, named in (("model.init_from", _source(child.config)), ("data.path", _data(child.config))):
            if named in names[position:] and child.config.task is None:
                raise UserError(f"stages.{child.path}.{key} = {named!r}: that stage does not come before it")
    check_tasks(experiment)
    run_dir, resumed = _directory(experiment)
    done: dict[str, Result] = {}
    earlier: dict[str, Stage] = {}
    for child in experiment.children:
        say(f"stage {child.path}")
        stage = _placed(child, run_dir, resumed, names)
        earlier[child.path] = Stage(stage, run_dir / child.path)
        if stage.task is None and _source(stage) in done:
            best = str(done[str(_source(stage))].run_dir / "checkpoints" / "best.ckpt")
            stage = load_config(stage.plain, {"model.init_from": best, **_place(stage)})
        try:
            if stage.task is None:
                done[child.path] = fit(stage)
            else:  # which may train too
                done[child.path] = run_task(stage, {name: earlier[name] for name in done})
        except Interrupted as error:
            raise Interrupted(error.signum, run_dir, error.path) from None
    last = done[names[-1]]
    metrics = {f"{name}/{k}": v for name, result in done.items() for k, v in result.metrics.items()}
    if not run_directory.is_worker():
        run_directory.write_metrics(run_dir, {**metrics, **last.metrics})
    say(f"directory of all stages: {run_dir}\ndashboard:               tensorboard --logdir {run_dir}")
    return Result(metrics=last.metrics, run_dir=run_dir, module=last.module, children=done)


def run_variants(experiment: Config) -> Result:
    """Run every variant with every seed and the baselines, then compare them.

    A fit that fails is listed as failed and the others go on.

    Raises:
        RunError: Not one of them finished.
        UserError: A resumed study's settings differ from what its fits were run with.
        Interrupted: A signal stopped the study; `resume` takes it up again.
    """
    run_dir, resumed = _directory(experiment)
    failed: list[str] = []
    jobs: list[tuple[str, Callable[..., None], Any, bool]] = [
        (path, _run_baseline, (record, beside), _has_run(run_dir / path))
        for path, (record, beside) in _baselines(experiment).items()
    ]
    for child in experiment.children:
        finished = resumed and _is_finished(child.config, run_dir / child.path)
        jobs.append((child.path, _run_child, (child.config.plain, resumed), finished))
    for number, (path, job, arguments, finished) in enumerate(jobs, 1):
        folder = run_dir / path
        if finished:
            say(f"[{number}/{len(jobs)}] {path} is finished already")
            continue
        say(f"[{number}/{len(jobs)}] {path}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failed.json").unlink(missing_ok=True)
        status, signum = _in_own_process(job, (str(folder), *arguments))
        if signum is not None or status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            raise Interrupted(signum or status - 128, run_dir, run_dir)
        if status != 0:
            failed.append(path)
            _note_failure(folder, exit_status=status)
            log = folder / "run.log"
            say(f"{path} failed with exit status {status}{f'; see {log}' if log.exists() else ''}")
    if len(failed) == len(jobs):
        raise RunError(f"none of the {len(jobs)} fits finished; see {run_dir}")
    folders = [run_dir / path for path, *_ in jobs]
    console().print(compare.compare(folders, run_dir).table())
    say(f"study directory: {run_dir}\ndashboard:       tensorboard --logdir {run_dir}")
    children = {path: run_dir / path for path, *_ in jobs if path not in failed}
    return Result(metrics={}, run_dir=run_dir, children=children)


def _directory(experiment: Config) -> tuple[Path, bool]:
    """The directory of a study or chain, and whether it continues an earlier one."""
    if experiment.resume is not None:
        named = None if experiment.resume == "auto" else Path(experiment.resume)
        folder = named or (Path(experiment.run_dir) if experiment.run_dir else run_directory.inherited())
        folder = folder or run_directory.newest_unfinished(experiment)
        if folder is not None and (folder / "config.yaml").exists():
            _check_same(experiment, folder)
            if experiment.run_dir is None:
                run_directory.bequeath(folder)
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


def _check_same(experiment: Config, folder: Path) -> None:
    """Refuse to mix fits of different settings, or baselines, in one study."""
    for child in experiment.children:
        place = folder / child.path
        if (place / "config.yaml").exists():
            own = _with_data(child.config, folder, [child.path for child in experiment.children])
            resume.check_same(own.plain, load_config(place / "config.yaml").plain, place)
    for path, (record, _) in _baselines(experiment).items():
        if _has_run(folder / path):
            saved = read_file(folder / path / "config.yaml").values
            resume.check_same(record, saved, folder / path, "another run_dir starts a new study")


def _baselines(experiment: Config) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Each baseline's plain config by its folder, and the plain config of the fit whose data it is given.

    A baseline runs once, on the data of the first fit; where the first variant's data differ between seeds,
    once for each seed.
    """
    variant = experiment.children[0].path.partition("/")[0]
    fits = [c.config.plain for c in experiment.children if c.path.partition("/")[0] == variant]
    same = all(fit["data"] == fits[0]["data"] for fit in fits)
    return {
        (name if same else f"{name}/seed_{beside['seed']}"): (
            {
                "name": name,
                "seed": beside["seed"],
                "data": beside["data"],
                "baseline": {"name": section.name, **dataclasses.asdict(section.config)},
            },
            beside,
        )
        for name, section in experiment.baselines.items()
        for beside in (fits[:1] if same else fits)
    }


def _has_run(baseline: Path) -> bool:
    """Whether a baseline has its metrics, and the settings that gave them."""
    return all((baseline / name).exists() for name in ("metrics.json", "config.yaml"))


def _note_failure(folder: Path, **what: Any) -> None:
    """Add to `failed.json`, which the comparison reads."""
    path = folder / "failed.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    run_directory.write_text(path, json.dumps({**told, **what}) + "\n")


def _is_finished(child: Config, folder: Path) -> bool:
    return folder.exists() and resume.is_finished(child, resume.newest_good(folder))


def _source(stage: Config) -> str | None:
    return getattr(stage.model.config, "init_from", None)


def _place(stage: Config) -> dict[str, Any]:
    return {k: v for k, v in (("run_dir", stage.run_dir), ("resume", stage.resume)) if v is not None}


def _data(stage: Config) -> str | None:
    return getattr(stage.data.config, "path", None)


def _with_data(stage: Config, run_dir: Path, names: Sequence[str]) -> Config:
    """A chain's fit whose data, where it names a stage, is the file that this stage leaves."""
    if stage.task is not None or _data(stage) not in names:
        return stage
    return load_config(stage.plain, {"data.path": str(run_dir / str(_data(stage)) / STATES)})


def _placed(child: Child, run_dir: Path, resumed: bool, names: Sequence[str] = ()) -> Config:
    return dataclasses.replace(
        _with_data(child.config, run_dir, names),
        run_dir=str(run_dir / child.path),
        resume="auto" if resumed else None,
    )


def _process_context() -> Any:
    """How a study's processes come to be: see the head of this file."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _in_own_process(job: Callable[..., None], arguments: tuple[Any, ...]) -> tuple[int, int | None]:
    """Run a function in a process of its own; return its exit status, and the signal that came meanwhile.

    Either signal reaches it as SIGTERM, which an interpreter that is still importing dies of in silence.
    """
    process = _process_context().Process(target=job, args=arguments)
    received: list[int] = []

    def forward(signum: int, frame: Any) -> None:
        received.append(signum)
        pass_on()

    def pass_on() -> None:
        # Asking whether it is alive would reap it, behind the back of the join that waits for it.
        if process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)

    previous = {s: signal.signal(s, forward) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        # The child inherits what is ignored: of a Ctrl-C, which a terminal sends to both, it hears from us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        process.start()
        signal.signal(signal.SIGINT, forward)
        if received:
            pass_on()
        process.join()
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    code = process.exitcode or 0
    # A child that a signal killed has minus its number.
    return (128 - code if code < 0 else code), (received[0] if received else None)


def _end_with_parent() -> None:
    """Stop this process as a signal would when the study's process dies without a word."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _run_child(folder: str, plain: Mapping[str, Any], resumed: bool) -> None:
    place = {"run_dir": folder, **({"resume": "auto"} if resumed else {})}
    # Lightning starts further ranks by the command line it finds: it must name this fit, not the study.
    path = Path(folder) / "config.yaml"
    run_directory.write_text(path.with_name("study.yaml"), to_yaml(plain))
    sys.argv = [sys.argv[0], str(path.with_name("study.yaml")), *(f"{k}={v}" for k, v in place.items())]

    def main(_: list[str]) -> int:
        try:
            with _failure_noted(Path(folder)):
                fit(load_config(plain, place))
        except Interrupted as error:
            return 128 + error.signum  # the study says how to go on
        return 0

    _end_with_parent()
    sys.exit(cli.command(main)([]))


def _run_baseline(folder: str, record: Mapping[str, Any], plain: Mapping[str, Any]) -> None:
    def main(_: list[str]) -> None:
        from experiments.config import registry
        from experiments.studies.baselines import run_baseline

        experiment = load_config(plain)
        values = dict(record["baseline"])
        with _failure_noted(Path(folder)):
            settings = registry.schema("baseline", values.pop("name"))(**values)
            data = build_data(experiment)
            metrics = run_baseline(settings, data, experiment.seed, confusion_to=Path(folder))
        run_directory.write_text(Path(folder, "config.yaml"), to_yaml(record))
        run_directory.write_metrics(Path(folder), metrics)

    sys.exit(cli.command(main)([]))


@contextlib.contextmanager
def _failure_noted(folder: Path) -> Iterator[None]:
    """Leave the line that says what went wrong where the comparison finds it."""
    try:
        yield
    except Exception as error:
        _note_failure(folder, error=cli.one_line(error))
        raise

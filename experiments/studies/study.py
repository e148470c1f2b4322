"""Run a study: the fits of `variants` × `seeds` and the `baselines`, then the comparison of all."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from experiments import cli
from experiments.config import own_code
from experiments.config.check import load_config, to_yaml
from experiments.config.root import Config, Section
from experiments.config.sources import read_file
from experiments.console import print_table, say, tensorboard_command
from experiments.errors import EndedEarlyError, Interrupted, RunError, writing
from experiments.studies.compare_runs import compare_runs
from experiments.studies.processes import run_in_process
from experiments.studies.study_directory import open_directory
from experiments.terminal_streams import outlive_terminal
from experiments.training import recovery, resume, run_directory
from experiments.training.build import build_data, create
from experiments.training.fit import Result, fit
from experiments.training.run_directory import nothing_left_if_refused
from experiments.training.run_lock import claims_end

ENDED_EARLY = 3
"""Exit status of the process of a fit that a sweep has ended early."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A fit or a baseline: its subdirectory, the function that runs it, and whether it has run already."""

    path: str
    function: Callable[..., None]
    arguments: tuple[Any, ...]
    is_finished: bool


def run_variants(experiment: Config) -> Result:
    """Run every variant with every seed and the baselines, then compare them.

    A fit that fails is listed as failed; the other fits still run.

    Raises:
        RunError: All fits failed.
        UserError: The settings of a resumed study differ from those of its fits.
        Interrupted: A signal stopped the study; `resume` continues it.
    """
    own_code.sources_of(experiment)  # refuses classes of a notebook before there is a directory
    with claims_end():
        run_dir, resumed = open_directory(experiment, lambda folder: _check_same(experiment, folder))
        with nothing_left_if_refused(run_dir):
            return _run_in(experiment, run_dir, resumed)


def _run_in(experiment: Config, run_dir: Path, resumed: bool) -> Result:
    """Run the jobs of a study in its directory."""
    jobs = _jobs(experiment, run_dir, resumed)
    failed: list[str] = []
    for number, job in enumerate(jobs, 1):
        progress = f"[{number}/{len(jobs)}] {job.path}"
        if job.is_finished:
            say(f"{progress} is finished already")
            continue
        say(progress)
        if status := run_job(job, run_dir):
            say_failed(job.path, run_dir, status)
            failed.append(job.path)
    if len(failed) == len(jobs):
        logs = f"; see {run_dir}" if any(run_dir.glob("*/**/run.log")) else ""
        raise RunError(f"none of the {len(jobs)} fits finished{logs}")
    folders = {job.path: run_dir / job.path for job in jobs}
    comparison = compare_runs(list(folders.values()), run_dir, experiment.comparison)
    print_table(comparison.table())
    say(f"study directory: {run_dir}\ndashboard:       {tensorboard_command(run_dir)}")
    children = {path: folder for path, folder in folders.items() if path not in failed}
    return Result(metrics=comparison.means(), run_dir=run_dir, children=children)


def _jobs(experiment: Config, run_dir: Path, resumed: bool) -> list[Job]:
    """List the baselines, which are quick, and then the fits."""
    for path in _baselines(experiment):
        if recovery.is_damaged_json(run_dir / path / "metrics.json"):
            recovery.set_aside(run_dir / path / "metrics.json")
    own = own_code.sources_of(experiment)
    baselines = [
        Job(
            path=path,
            function=_run_baseline,
            arguments=(record, fit_config, own),
            is_finished=_has_run(run_dir / path),
        )
        for path, (record, fit_config) in _baselines(experiment).items()
    ]
    fits = [
        Job(
            path=child.path,
            function=run_fit,
            arguments=(child.config.plain, resumed, own),
            is_finished=resumed and _is_finished(child.config, run_dir / child.path),
        )
        for child in experiment.children
    ]
    return [*baselines, *fits]


def run_job(job: Job, run_dir: Path) -> int:
    """Run a job in its own process; return its exit status, which is 0 if it finished.

    Raises:
        Interrupted: A signal stopped it.
    """
    folder = run_dir / job.path
    with writing(folder / "failed.json"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failed.json").unlink(missing_ok=True)
    status, signum = run_in_process(job.function, (str(folder), *job.arguments))
    if signum is not None:
        raise Interrupted(signum, run_dir, run_dir)
    if status:
        note_failure(folder, exit_status=status)
    return status


def say_failed(path: str, run_dir: Path, status: int) -> None:
    """Print that a job failed, and where its log is."""
    log = run_dir / path / "run.log"
    say(f"{path} failed with exit status {status}{f'; see {log}' if log.exists() else ''}")


def _check_same(experiment: Config, folder: Path) -> None:
    """Refuse to continue a study with other settings of its fits or baselines."""
    for child in experiment.children:
        place = folder / child.path
        if (place / "config.yaml").exists():
            resume.check_same(child.config.plain, load_config(place / "config.yaml").plain, place)
    for path, (record, _) in _baselines(experiment).items():
        if _has_run(folder / path):
            saved = read_file(folder / path / "config.yaml").values
            resume.check_same(record, saved, folder / path, "another run_dir starts a new study")


def _baselines(experiment: Config) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """By subdirectory: a baseline's plain config, and the plain config of the fit that has the same data.

    A baseline runs once, on the data of the first fit. If the data of the first variant differ between seeds
    or folds, it runs once for each of them.
    """
    first, places = experiment.children[0], [child.path.partition("/") for child in experiment.children]
    fits = [
        (folder, child.config.plain)
        for child, (variant, _, folder) in zip(experiment.children, places, strict=True)
        if variant == first.path.partition("/")[0]
    ]
    same_data = all(fit["data"] == first.config.plain["data"] for _, fit in fits)
    return {
        (name if same_data else f"{name}/{folder}"): (
            {
                "name": name,
                "seed": fit["seed"],
                "data": fit["data"],
                "baseline": section.to_plain(),
            },
            fit,
        )
        for name, section in experiment.baselines.items()
        for folder, fit in (fits[:1] if same_data else fits)
    }


def _has_run(baseline: Path) -> bool:
    """Whether the directory of a baseline holds its metrics and its settings."""
    return all((baseline / name).exists() for name in ("metrics.json", "config.yaml"))


def _is_finished(config: Config, folder: Path) -> bool:
    return folder.exists() and resume.is_finished(config, resume.newest_good(folder))


def run_fit(
    folder: str,
    plain: Mapping[str, Any],
    resumed: bool,
    own: Sequence[str],
    callbacks: Callable[[], Sequence[Callback]] = tuple,
) -> None:
    """Run one fit, in its own process, which loads the own code of the study's process first.

    `callbacks` makes the callbacks that a sweep adds.
    """
    own_code.load(own)
    place = {"run_dir": folder, **({"resume": "auto"} if resumed else {})}
    # Lightning starts further ranks with this process's command line: it must name the fit, not the study.
    path = Path(folder) / "study.yaml"
    run_directory.write_text(path, to_yaml(plain))
    overrides = (f"{key}={value}" for key, value in place.items())
    sys.argv = [sys.argv[0], *own_code.options(), str(path), *overrides]

    def main(_: list[str]) -> int:
        # A fit of a study that was killed may still be saving its state.
        run_directory.claim(Path(folder), wait=60)
        try:
            with _failure_noted(Path(folder)):
                fit(load_config(plain, place), callbacks=callbacks())
        except EndedEarlyError as error:
            say(f"{Path(folder).name} {error}")
            return ENDED_EARLY
        except Interrupted as error:
            return 128 + error.signum  # The study's own process prints how to continue.
        return 0

    outlive_terminal()
    with claims_end():
        status = cli.command(main)([])
    sys.exit(status)


def _run_baseline(
    folder: str, record: Mapping[str, Any], plain: Mapping[str, Any], own: Sequence[str]
) -> None:
    """Run one baseline, in its own process, on the data of a fit's plain config."""
    own_code.load(own)

    def main(_: list[str]) -> None:
        from experiments.config import registry
        from experiments.studies.baselines import run_baseline

        experiment = load_config(plain)
        values = dict(record["baseline"])
        with _failure_noted(Path(folder)):
            name = values.pop("name")
            settings = registry.schema("baseline", name)(**values)
            estimator = None  # of an own baseline
            if registry.entry("baseline", name).target is not None:
                estimator = create("baseline", Section(name, settings), random_state=experiment.seed)
            metrics = run_baseline(
                settings, build_data(experiment), experiment.seed, records_to=Path(folder), own=estimator
            )
        run_directory.write_text(Path(folder, "config.yaml"), to_yaml(record))
        run_directory.write_metrics(Path(folder), metrics)

    outlive_terminal()
    sys.exit(cli.command(main)([]))


@contextlib.contextmanager
def _failure_noted(folder: Path) -> Iterator[None]:
    """Write an error's message to `failed.json`, from which the comparison reads it."""
    try:
        yield
    except Exception as error:
        with contextlib.suppress(RunError):  # on a full disk the error itself matters more
            note_failure(folder, error=cli.one_line(error))
        raise


def note_failure(folder: Path, **what: Any) -> None:
    """Add an `error` or an `exit_status` to `failed.json`, from which the comparison reads it."""
    run_directory.write_text(folder / "failed.json", json.dumps({**failure(folder), **what}) + "\n")


def failure(folder: Path) -> dict[str, Any]:
    """Read what `note_failure` has written; empty if there is nothing."""
    path = folder / "failed.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

"""Kill runs of all kinds at random moments, resume them, and compare them with uninterrupted runs.

    python -m tests.campaigns.kills --count 200 --seed 0

Each run is killed up to five times by SIGKILL, SIGTERM or SIGINT and resumed by `resume=auto` until it is
finished. The moment is a random time, or the n-th operation on a file, which hits start-up, checkpoints,
logs and the final metrics. Then weights, optimizer, loop counters, random states, `metrics.csv` and
`metrics.json` must equal those of an uninterrupted run to the bit (`same_runs.py`).

A process is forked from this one, which has imported the libraries; `--fresh` starts a new interpreter for
this fraction of them. The last line is the figure. The status is 1 if a run differs or fails; its folder is
kept, and a line says how to repeat it.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: many short runs, one core each

import argparse
import dataclasses
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch.utils.tensorboard  # noqa: F401
import torchmetrics  # noqa: F401

import experiments.training.fit  # noqa: F401 - imported once, before the processes are forked
from experiments.config.check import to_yaml
from tests.campaigns.run_kinds import run_kinds
from tests.campaigns.run_process import fork, numbered_cases, run_here, wait
from tests.campaigns.same_runs import differences

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MOST_KILLS = 5
"""Most kills of one run."""
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "shutil.copyfile")
"""Python's audit events that count as an operation on a file."""


@dataclasses.dataclass(frozen=True)
class Kill:
    """A signal and its moment: seconds after the start, or the number of an operation on the run's files."""

    signum: int
    seconds: float | None = None
    operation: int | None = None

    def __str__(self) -> str:
        """Return a text such as `SIGKILL at file operation 12`."""
        moment = f"after {self.seconds:.2f} s" if self.seconds else f"at file operation {self.operation}"
        return f"{signal.Signals(self.signum).name} {moment}"


@dataclasses.dataclass(frozen=True)
class Reference:
    """An uninterrupted run, and what it took."""

    run_dir: Path
    seconds: float
    operations: int


class Campaign:
    """The references and the random draws of one campaign."""

    def __init__(self, folder: Path, seed: int, fresh: float, kinds: list[str] | None = None) -> None:
        self.folder = folder
        self.fresh = fresh
        self.seed = seed
        self.random = random.Random(seed)
        self.kinds = run_kinds(folder, Path("data"))
        if kinds:
            self.kinds = {name: self.kinds[name] for name in kinds}
        for name, settings in self.kinds.items():
            (folder / f"{name}.yaml").write_text(to_yaml(settings), encoding="utf-8")
        self.references: dict[str, Reference] = {}
        self.kills = 0

    def reference(self, kind: str) -> Reference:
        """Return the uninterrupted run of a kind; the first call runs it."""
        if kind not in self.references:
            run_dir = self.folder / f"reference_{kind}"
            operations = self.folder / f"operations_{kind}"
            begun = time.perf_counter()
            status = self.run(kind, run_dir, count_to=operations)
            if status != 0:
                raise SystemExit(f"{kind}: the reference ended with status {status}; see {log_of(run_dir)}")
            seconds = time.perf_counter() - begun
            self.references[kind] = Reference(run_dir, seconds, int(operations.read_text()))
        return self.references[kind]

    def one_run(self, kind: str, number: int) -> list[str]:
        """Kill and resume one run until it is finished; return what differs from the reference.

        The draws depend on the seed, the number and the kind only, so that each run can be repeated alone.
        """
        reference = self.reference(kind)
        self.random.seed(f"{self.seed} {number} {kind}")
        run_dir = self.folder / f"{number}_{kind}"
        kills: list[str] = []
        for _ in range(self.random.randint(1, MOST_KILLS)):
            kill = self._draw(reference)
            status = self.run(kind, run_dir, kill=kill)
            if status == 0:
                break
            kills.append(str(kill))
            if status not in (-kill.signum, 128 + kill.signum):
                return [f"{', '.join(kills)}: status {status}; see {log_of(run_dir)}"]
        self.kills += len(kills)
        status = self.run(kind, run_dir)
        if status != 0:
            return [f"{', '.join(kills)}: the last resume ended with {status}; see {log_of(run_dir)}"]
        if kind == "minutes":
            found = self._compare_minutes(run_dir)
        else:
            found = differences(reference.run_dir, run_dir)
        return [f"{', '.join(kills)}: {line}" for line in found]

    def _compare_minutes(self, run_dir: Path) -> list[str]:
        """Compare with a run that ends by `max_steps` where this one ended by its time."""
        steps = int(json.loads((run_dir / "metrics.json").read_text())["steps"])
        whole = self.folder / f"{run_dir.name}_whole"
        status = self.run("minutes", whole, f"trainer.max_steps={steps}", "trainer.max_minutes=null")
        if status != 0:
            return [f"the reference of {steps} steps ended with status {status}; see {log_of(whole)}"]
        found = differences(whole, run_dir, only=("state_dict", "optimizer_states", "random_states"))
        if not found:
            shutil.rmtree(whole)
        return found

    def _draw(self, reference: Reference) -> Kill:
        signum = self.random.choice(SIGNALS)
        part = self.random.choice((self.random.random(), self.random.uniform(0.8, 1.0)))  # often near the end
        if self.random.random() < 0.5:
            return Kill(signum, seconds=0.01 + part * reference.seconds)
        return Kill(signum, operation=1 + int(part * reference.operations))

    def run(
        self, kind: str, run_dir: Path, *more: str, kill: Kill | None = None, count_to: Path | None = None
    ) -> int:
        """Start or resume a run in its own process; return its exit status, negative for a signal."""
        arguments = [str(self.folder / f"{kind}.yaml"), f"run_dir={run_dir}", "resume=auto", *more]
        fresh = kill is not None and kill.operation is None and self.random.random() < self.fresh
        if fresh:
            process = _start_fresh(arguments, run_dir)
        else:
            process = fork(lambda: _run_counted(arguments, run_dir, kill, count_to), log_of(run_dir))
        return wait(process, kill and kill.signum, kill and kill.seconds)


def log_of(run_dir: Path) -> Path:
    """Return the file with the output of a run."""
    return run_dir.with_name(f"{run_dir.name}.log")


def _start_fresh(arguments: list[str], run_dir: Path) -> int:
    with log_of(run_dir).open("a", encoding="utf-8") as log:
        command = [sys.executable, "-m", "experiments.run", *arguments]
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True).pid


def _run_counted(arguments: list[str], run_dir: Path, kill: Kill | None, count_to: Path | None) -> int:
    """Run the command in this process, and write the number of operations on its files to `count_to`."""
    count = _count_file_operations(run_dir, kill)
    status = run_here(arguments)
    if count_to is not None:
        count_to.write_text(str(count[0]), encoding="utf-8")
    return status


def _count_file_operations(run_dir: Path, kill: Kill | None) -> list[int]:
    """Count operations on the run's files in a list of one number; kill this process at the chosen one."""
    count = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and str(run_dir) in str(arguments[0]):
            count[0] += 1
            if kill is not None and count[0] == kill.operation:
                os.kill(os.getpid(), kill.signum)

    sys.addaudithook(hook)
    return count


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = numbered_cases(__doc__, "kills", count=200, what="kills")
    parser.add_argument("--minutes", type=float, help="End after this time even with fewer kills.")
    parser.add_argument("--kind", nargs="+", metavar="KIND", help="Kinds of run (default: all).")
    parser.add_argument(
        "--fresh", type=float, default=0.1, help="Fraction of new interpreters (default: 0.1)."
    )
    parser.add_argument("--folder", type=Path, help="Folder for the runs (default: a temporary one).")
    return parser


def main() -> int:
    """Run the campaign; return the exit status."""
    options = build_parser().parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="kills_"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    campaign = Campaign(folder, options.seed, options.fresh, options.kind)
    failed: list[str] = []
    number = options.start
    kinds = list(campaign.kinds)
    while campaign.kills < options.count and time.monotonic() < deadline:
        kind = kinds[number % len(kinds)]
        name = f"{number}_{kind}"
        found = campaign.one_run(kind, number)
        print(f"{name}: {'DIFFERS' if found else 'equal'}, {campaign.kills} kills so far", flush=True)
        if found:
            failed.append(name)
            for line in found[:5]:
                print(f"    {line}")
            repeat = f"--kind {kind} --seed {options.seed} --start {number} --count 1"
            print(f"    repeat: python -m tests.campaigns.kills {repeat}")
            print(f"    folder: {folder / name}", flush=True)
        else:
            shutil.rmtree(folder / name)
        number += 1
    runs = number - options.start
    print(
        f"kills: {campaign.kills} kills in {runs} runs of {len(kinds)} kinds, "
        f"{runs - len(failed)} runs equal to the bit, {len(failed)} not; seed {options.seed}"
    )
    if not failed and options.folder is None:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Start several processes for one run directory, one asset or one prepared text, and check that one owns it.

    python -m tests.campaigns.races --count 60 --seed 0

The cases take turns:

- `fresh`: new runs with one `run_dir`. One trains, and the others are refused in one line.
- `auto`: the same with `resume=auto`, in rounds; the owner is killed in all rounds but the last.
- `by_name`: `resume=auto` without `run_dir`, beside an interrupted run. One continues it, and each other
  process starts its own run.
- `asset`, `tokens`: fetch files and prepare a text. All processes get the right bytes, also if one is killed.

Each finished run must equal one that ran alone, to the bit (`same_runs.py`). The last line is the figure. The
status is 1 if a case fails; its folder is kept, and a line says how to repeat it.
"""

import dataclasses
import gzip
import hashlib
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from datamodules.assets.asset_catalog import Asset
from datamodules.assets.asset_sources import LocalFolder, Member
from datamodules.assets.fetch import fetch_asset
from datamodules.configs.token_corpus import TextConfig, TokenizerConfig
from datamodules.text.text_source import TextFiles
from datamodules.text.token_preparation import prepare_corpus
from experiments.training import run_lock
from tests.campaigns.damage_samples import fingerprint
from tests.campaigns.kills import Campaign
from tests.campaigns.run_process import LIMIT, fork, numbered_cases, run_here, wait_for_group
from tests.campaigns.same_runs import differences

CASES = ("fresh", "auto", "by_name", "asset", "tokens")
Job = Callable[[], int | None]
End = tuple[int, str]
"""The exit status of a process, negative for a signal, and its output."""
Victim = Callable[[list[int], float], list[int]]
"""Chooses processes to kill from the running ones and the seconds since their start."""


def nobody(running: list[int], seconds: float) -> list[int]:
    """Kill no process."""
    return []


def any_after(moment: float) -> Victim:
    """Kill one process after some seconds."""
    killed: list[int] = []

    def victim(running: list[int], seconds: float) -> list[int]:
        if killed or seconds < moment:
            return []
        killed.append(running[0])
        return killed

    return victim


def owner_after(run_dir: Path, moment: float) -> Victim:
    """Kill the owner of a run directory, once, after some seconds."""
    killed: list[int] = []

    def victim(running: list[int], seconds: float) -> list[int]:
        owner = run_lock.owner(run_dir).get("pid")
        if killed or seconds < moment or owner not in running:
            return []
        killed.append(owner)
        return killed

    return victim


class Races:
    """The cases, and the random draws of one campaign."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.runs = Campaign(folder, seed, fresh=0.0)
        del self.runs.kinds["minutes"]  # it ends at another step each time
        self.kinds = list(self.runs.kinds)
        self.random = random.Random()
        self.processes = 0
        self.asset = make_asset(folder / "source")
        self.text = TextConfig(
            path=str(folder / "cat.txt"), root="", tokenizer=TokenizerConfig(kind="bpe", vocab_size=300)
        )
        (folder / "alone").mkdir()
        self.tokens = self.prepare(folder / "alone")

    def one_case(self, case: str, number: int) -> list[str]:
        """Run one case; return what is wrong.

        The draws depend on the seed, the number and the case only, so that each case can be repeated alone.
        """
        self.random.seed(f"{self.seed} {number} {case}")
        folder = self.folder / f"{number}_{case}"
        folder.mkdir()
        kind = self.random.choice(self.kinds)
        match case:
            case "fresh":
                found = self.fresh(kind, folder)
            case "auto":
                found = self.auto(kind, folder)
            case "by_name":
                found = self.by_name(kind, folder)
            case "asset":
                found = self.data(lambda: self.fetch(folder / "data"), folder)
            case _:
                found = self.data(lambda: self.prepare(folder) == self.tokens, folder)
        return [f"{kind}: {line}" for line in found]

    def fresh(self, kind: str, folder: Path) -> Iterator[str]:
        """Start new runs with one `run_dir`."""
        yield from one_owner(self.race(self.command(kind, f"run_dir={folder / 'run'}"), folder))
        yield from differences(self.runs.reference(kind).run_dir, folder / "run")

    def auto(self, kind: str, folder: Path) -> Iterator[str]:
        """Start or resume runs with one `run_dir`, in rounds."""
        job = self.command(kind, f"run_dir={folder / 'run'}", "resume=auto")
        for _ in range(self.random.randint(0, 2)):
            moment = self.random.uniform(0, self.runs.reference(kind).seconds)
            yield from one_owner(self.race(job, folder, owner_after(folder / "run", moment)))
        yield from one_owner(self.race(job, folder))
        yield from differences(self.runs.reference(kind).run_dir, folder / "run")

    def by_name(self, kind: str, folder: Path) -> Iterator[str]:
        """Start or resume runs of one name beside a run that was killed."""
        command = self.command(kind, "resume=auto")

        def job() -> int | None:
            os.chdir(folder)
            return command()

        moment = self.random.uniform(0, 1.2 * self.runs.reference(kind).seconds)
        first = self.race(job, folder, any_after(moment), racers=1)
        ends = self.race(job, folder)
        yield from (f"status {status}: {output[-300:]!r}" for status, output in ends if status)
        result = "comparison.csv" if kind == "study" else "metrics.json"
        runs = [path.parent for path in (folder / "runs" / kind).glob(f"*/{result}")]
        finished = [status for status, _ in first + ends].count(0)
        if len(runs) != finished:
            yield f"{finished} processes ended well, and {len(runs)} runs are finished"
        for run_dir in runs:
            yield from differences(self.runs.reference(kind).run_dir, run_dir)

    def data(self, is_right: Callable[[], bool], folder: Path) -> Iterator[str]:
        """Start processes that each check the same data; kill one of them in every second case."""
        (folder / "data").mkdir()
        moment = self.random.choice((math.inf, 0.05 + self.random.uniform(0, 0.1)))
        job = lambda: 0 if is_right() else 3  # noqa: E731
        for status, output in self.race(job, folder, any_after(moment)):
            if status not in (0, -signal.SIGKILL):
                yield f"status {status}: {output[-300:]!r}"
        if not is_right():
            yield "the data is wrong afterwards"
        lost = [path for path in folder.rglob("*") if "partial" in path.name or path.name.startswith(".cat-")]
        lost = [path for path in lost if path.suffix != ".lock"]
        if lost and moment == math.inf:
            yield f"{lost[0].name} is left behind"

    def fetch(self, root: Path) -> bool:
        """Fetch the asset; return whether all its bytes are right."""
        folder = fetch_asset("one", self.asset, root)
        return all(
            hashlib.sha256((folder / m.name).read_bytes()).hexdigest() == m.sha256 for m in self.asset.members
        )

    def prepare(self, root: Path) -> str:
        """Prepare the text; return a digest of its tokens."""
        config = dataclasses.replace(self.text, root=str(root))
        prepared = prepare_corpus(TextFiles.under(Path(self.text.path)), config, name="cat")
        return fingerprint((prepared.parts, prepared.tokenizer.to_dict()))

    def command(self, kind: str, *overrides: str) -> Job:
        """Return a function that runs a kind of run."""
        return lambda: run_here([str(self.folder / f"{kind}.yaml"), *overrides])

    def race(self, job: Job, folder: Path, victim: Victim = nobody, racers: int | None = None) -> list[End]:
        """Let several processes run one function; return the exit status and the output of each."""
        racers = racers or self.random.randint(2, 4)
        self.processes += racers
        spread = self.random.choice((0.0, 0.02, 0.3))
        logs = [folder / f"{self.processes}_{index}.log" for index in range(racers)]
        begun = time.monotonic() + 0.05  # when all processes are there
        running: dict[int, Path] = {}
        for log in logs:
            running[fork(starting_at(begun + self.random.uniform(0, spread), job), log)] = log
        ends = []
        while running:
            seconds = time.monotonic() - begun
            chosen = list(running) if seconds > LIMIT else victim(list(running), seconds)
            for process in chosen:
                os.kill(process, signal.SIGKILL)
            for process, log in list(running.items()):
                pid, status = os.waitpid(process, os.WNOHANG)
                if pid:
                    del running[process]
                    wait_for_group(process)
                    ends.append((os.waitstatus_to_exitcode(status), log.read_text("utf-8")))
            time.sleep(0.002)
        return ends


def starting_at(moment: float, job: Job) -> Job:
    """Return a function that waits until a moment, and then runs the other one."""

    def run() -> int | None:
        time.sleep(max(0.0, moment - time.monotonic()))
        return job()

    return run


def make_asset(folder: Path) -> Asset:
    """Write the files of a source, and return the asset that consists of them."""
    folder.mkdir()
    members = []
    for name in ("a.bin", "b/c.bin", "d.bin"):
        data = random.Random(name).randbytes(1 << 21)
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(data, 1))
        members.append(Member(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest()))
    return Asset(
        description="One.", members=tuple(members), sources=(LocalFolder(str(folder)),), licence="none"
    )


def one_owner(ends: list[End]) -> Iterator[str]:
    """Yield what is wrong if several processes wanted one run directory."""
    trained = sum(status == 0 and " · cpu" in output for status, output in ends)
    for status, output in ends:
        if status == 2:
            errors = output[output.index("error: ") :].splitlines() if "error: " in output else []
            is_known = "is in use by process" in output or "already holds a run" in output
            if len(errors) != 1 or not is_known:
                yield f"refused by {output[-300:]!r}"
        elif status not in (0, -signal.SIGKILL):
            yield f"status {status}: {output[-300:]!r}"
    if trained > 1 or not any(status in (0, -signal.SIGKILL) for status, _ in ends):
        yield f"{trained} processes trained, with status {[status for status, _ in ends]}"


def main() -> int:
    """Run the campaign; return the exit status."""
    options = numbered_cases(__doc__, "races", count=60, what="cases").parse_args()
    folder = Path(tempfile.mkdtemp(prefix="races_")).resolve()
    races, failed = Races(folder, options.seed), 0
    for number in range(options.start, options.start + options.count):
        case = CASES[number % len(CASES)]
        found = races.one_case(case, number)
        print(f"{number}_{case}: {'; '.join(found[:5]) or 'right'}", flush=True)
        if found:
            failed += 1
            repeat = f"--seed {options.seed} --start {number} --count 1"
            print(f"    repeat: python -m tests.campaigns.races {repeat}\n    folder: {folder}", flush=True)
        else:
            shutil.rmtree(folder / f"{number}_{case}")
    print(
        f"races: {options.count} races of {races.processes} processes in {len(CASES)} kinds, "
        f"{failed} failures; seed {options.seed}"
    )
    if not failed:
        shutil.rmtree(folder)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

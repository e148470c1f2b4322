"""Kill one of two processes of DDP at random moments, resume, and compare with an uninterrupted run.

    python -m tests.campaigns.ddp --count 30 --seed 0

Each run has two processes on the CPU. One of them, rank 0 or rank 1, is killed by SIGKILL at a random moment,
up to three times, and `resume=auto` continues the run. After each kill the other process must end within
`MOST_SECONDS`, and name the killed rank in one line. If rank 1 was killed, the status must be 1. At the end
the run must equal an uninterrupted run of two processes to the bit (`same_runs.py`). The kind `plain` must
also have the loss of one process with twice the batch size, up to rounding.

The last line is the figure. The status is 1 if a run differs or fails; its folder is kept, and a line says
how to repeat it.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.config.check import to_yaml
from tests.campaigns.run_kinds import run_kinds
from tests.campaigns.run_process import LIMIT, numbered_cases, processes_of_group, wait_for_group
from tests.campaigns.same_runs import differences

KINDS = ("mlp", "accumulation", "early_stopping", "language_model", "stages")
MOST_KILLS = 3
"""Most kills of one run."""
MOST_SECONDS = 30.0
"""Most seconds from a kill to the end of the other process."""
TWO = ("trainer.devices=2", "trainer.strategy=ddp")


class Ddp:
    """The references and the random draws of one campaign."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.random = random.Random()
        kinds = run_kinds(folder, Path("data"))
        self.kinds = {"plain": _plain(kinds["mlp"]), **{kind: kinds[kind] for kind in KINDS}}
        for name, settings in self.kinds.items():
            (folder / f"{name}.yaml").write_text(to_yaml(settings), encoding="utf-8")
        self.references: dict[str, float] = {}
        self.kills = 0
        self.slowest = 0.0

    def reference(self, kind: str) -> Path:
        """Return the uninterrupted run of a kind; the first call runs it.

        Raises:
            SystemExit: It failed, or two processes did not compute what one computes.
        """
        run_dir = self.folder / f"reference_{kind}"
        if kind not in self.references:
            begun = time.monotonic()
            status, output = self.run(kind, run_dir, *TWO)
            self.references[kind] = time.monotonic() - begun
            if status != 0:
                raise SystemExit(f"{kind}: the reference ended with status {status}: {output}")
            if kind == "plain":
                self._compare_with_one_process(run_dir)
        return run_dir

    def _compare_with_one_process(self, two: Path) -> None:
        one = self.folder / "one_process"
        batch = 2 * self.kinds["plain"]["data"]["batch_size"]
        status, output = self.run("plain", one, f"data.batch_size={batch}")
        if status != 0:
            raise SystemExit(f"one process ended with status {status}: {output}")
        losses = [json.loads((run / "metrics.json").read_text())["test/loss"] for run in (one, two)]
        if abs(losses[0] - losses[1]) > 1e-4:
            raise SystemExit(f"one and two processes have the losses {losses}")

    def one_run(self, kind: str, number: int) -> list[str]:
        """Kill and resume one run until it is finished; return what is wrong.

        The draws depend on the seed, the number and the kind only, so that each run can be repeated alone.
        """
        reference = self.reference(kind)
        self.random.seed(f"{self.seed} {number} {kind}")
        run_dir = self.folder / f"{number}_{kind}"
        kills: list[str] = []
        for _ in range(self.random.randint(1, MOST_KILLS)):
            rank = self.random.choice((0, 1, 1))
            part = self.random.random() * (0.6 if rank else 1.0)  # rank 1 appears when rank 0 is half done
            moment = part * self.references[kind]
            status, output = self.run(kind, run_dir, *TWO, rank=rank, moment=moment)
            if status == 0:
                break
            self.kills += 1
            kills.append(f"rank {rank} after {moment:.2f} s")
            if found := faults(status, output, rank):
                return [f"{', '.join(kills)}: {found}; see {run_dir}.log"]
        status, output = self.run(kind, run_dir, *TWO)
        if status != 0:
            return [f"{', '.join(kills)}: the last resume ended with {status}: {output[-300:]!r}"]
        return [f"{', '.join(kills)}: {line}" for line in differences(reference, run_dir)]

    def run(
        self, kind: str, run_dir: Path, *more: str, rank: int | None = None, moment: float = 0.0
    ) -> tuple[int, str]:
        """Start or resume a run, and kill one of its ranks; return its exit status and its output.

        The seconds before the kill count from the moment when the rank is there.
        """
        command = [sys.executable, "-m", "experiments.run", str(self.folder / f"{kind}.yaml")]
        log = self.folder / f"{run_dir.name}.log"
        at = log.stat().st_size if log.exists() else 0
        with log.open("a", encoding="utf-8") as output:
            process = subprocess.Popen(
                [*command, f"run_dir={run_dir}", "resume=auto", *more],
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        begun, killed = time.monotonic(), None
        while process.poll() is None or (killed is not None and processes_of_group(process.pid)):
            now = time.monotonic()
            if rank is not None and killed is None:
                target = process.pid if rank == 0 else rank_one_of(process.pid)
                if target is None:
                    begun = now
                elif now - begun >= moment:
                    os.kill(target, signal.SIGKILL)
                    killed = now
            if now - (killed or begun) > LIMIT:
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.01)
        if killed is not None:
            self.slowest = max(self.slowest, time.monotonic() - killed)
        wait_for_group(process.pid)
        return process.returncode, log.read_text("utf-8")[at:]


def _plain(mlp: dict[str, Any]) -> dict[str, Any]:
    """Return a run that computes the same with one process and with two of half the batch size.

    An epoch ends before its last, smaller batch: two processes would leave out a sample of an odd one.
    """
    trainer = {**mlp["trainer"], "ema_decay": None, "limit_train_batches": 7, "checkpoint_every_n_steps": 3}
    data = {"name": "digits", "batch_size": 50, "val_size": 181, "eval_batch_size": 60}
    return {**mlp, "name": "plain", "model": {"name": "mlp", "hidden": [8]}, "data": data, "trainer": trainer}


def rank_one_of(leader: int) -> int | None:
    """Return the process of rank 1 in a group; `None` if there is none."""
    for process in processes_of_group(leader):
        try:
            environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if b"LOCAL_RANK=1" in environment:
            return process
    return None


def faults(status: int, output: str, rank: int) -> str:
    """Return what is wrong with the end of a run after a kill; empty if nothing is."""
    if status != (-signal.SIGKILL if rank == 0 else 1):
        return f"status {status}"
    if "Traceback" in output or "terminate called" in output:
        return "a traceback"
    named = [line for line in output.splitlines() if line.startswith("error: ")]
    if not named and rank == 0:
        return ""  # rank 1 had nothing to do any more
    if len(named) != 1 or f"local rank {rank} " not in named[0]:
        return f"the line {named}"
    return ""


def main() -> int:
    """Run the campaign; return the exit status."""
    options = numbered_cases(__doc__, "ddp", count=30, what="kills").parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ddp_")).resolve()
    campaign, failed, number = Ddp(folder, options.seed), 0, options.start
    kinds = list(campaign.kinds)
    while campaign.kills < options.count:
        kind = kinds[number % len(kinds)]
        found = campaign.one_run(kind, number)
        print(
            f"{number}_{kind}: {'; '.join(found[:5]) or 'equal'}, {campaign.kills} kills so far", flush=True
        )
        if found:
            failed += 1
            repeat = f"--seed {options.seed} --start {number} --count 1"
            print(f"    repeat: python -m tests.campaigns.ddp {repeat}\n    folder: {folder}", flush=True)
        else:
            shutil.rmtree(folder / f"{number}_{kind}")
        number += 1
    too_slow = campaign.slowest > MOST_SECONDS
    print(
        f"ddp: {campaign.kills} kills in {number - options.start} runs of {len(kinds)} kinds, "
        f"{failed} failures, {'too slow: ' if too_slow else ''}at most {campaign.slowest:.0f} s from a kill "
        f"to the end; seed {options.seed}"
    )
    if not failed:
        shutil.rmtree(folder)
    return int(failed > 0 or too_slow)


if __name__ == "__main__":
    sys.exit(main())

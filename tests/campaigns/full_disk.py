"""Fill the disk under runs of all kinds, make room, resume them, and compare them with uninterrupted runs.

    python -m tests.campaigns.full_disk --count 60 --seed 0

Each run directory is a small file system in memory (tmpfs). Its size is drawn between nothing and what the
whole run takes, so that the disk is full at start-up, in a checkpoint, in a log or at the final metrics. The
run must end with status 1 and a line that names the file, without a traceback, and leave no temporary file.
Then there is room, `resume=auto` ends the run, and it must equal an uninterrupted run to the bit
(`same_runs.py`).

The last line is the figure. The status is 1 if a run fails otherwise or differs, and a line says how to
repeat it. Mounting needs Linux and root; where that is not possible, the status is 2.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.campaigns.kills import Campaign, log_of
from tests.campaigns.run_process import numbered_cases
from tests.campaigns.same_runs import differences

PAGE = 4096
"""Bytes of one unit of a tmpfs."""
ROOM = "64m"
"""Size of the file system with room."""


def mount(folder: Path, options: str) -> None:
    """Mount a tmpfs on a folder, or change the mounted one.

    Raises:
        SystemExit: It is not possible here.
    """
    try:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip()
        print(f"full_disk: cannot mount a tmpfs ({reason}); run it on Linux as root", file=sys.stderr)
        raise SystemExit(2) from None


def pages_of(run_dir: Path) -> int:
    """Return the pages that a run takes, with one more copy of its largest file."""
    sizes = [path.stat().st_size for path in run_dir.rglob("*") if path.is_file()]
    return sum(-(-size // PAGE) for size in (*sizes, max(sizes)))


def faults(status: int, output: str, run_dir: Path) -> Iterator[str]:
    """Yield what is wrong with the end of a run on a full disk."""
    if status != 1:
        yield f"status {status}"
    named = [line for line in output.splitlines() if line.startswith("error: ") and str(run_dir) in line]
    if not any("No space left on device" in line for line in named):
        yield f"no line names the file: {output[-300:]!r}"
    for sign in ("Traceback", "--- Logging error"):
        if sign in output:
            yield f"the output has {sign!r}"
    for path in run_dir.rglob(".*"):
        yield f"{path.relative_to(run_dir)} is left behind"


def one_run(campaign: Campaign, kind: str, number: int) -> tuple[bool, list[str]]:
    """Run on a small disk, then resume with room; return whether the disk was full, and the faults."""
    reference = campaign.reference(kind).run_dir
    campaign.random.seed(f"{campaign.seed} {number} {kind}")
    pages = campaign.random.randint(1, pages_of(reference))
    run_dir = campaign.folder / f"{number}_{kind}"
    run_dir.mkdir()
    mount(run_dir, f"size={pages * PAGE}")
    try:
        status = campaign.run(kind, run_dir)
        was_full = status != 0
        found = list(faults(status, log_of(run_dir).read_text("utf-8"), run_dir)) if was_full else []
        mount(run_dir, f"remount,size={ROOM}")
        status = campaign.run(kind, run_dir)
        if status != 0:
            found.append(f"the resumed run ended with status {status}; see {log_of(run_dir)}")
        else:
            found += differences(reference, run_dir)
    finally:
        subprocess.run(["umount", str(run_dir)], check=True)
    run_dir.rmdir()
    return was_full, [f"{pages} pages: {line}" for line in found]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = numbered_cases(__doc__, "full_disk", count=60, what="full disks")
    parser.add_argument("--kind", nargs="+", metavar="KIND", help="Kinds of run (default: all).")
    return parser


def main() -> int:
    """Run the campaign; return the exit status."""
    options = build_parser().parse_args()
    folder = Path(tempfile.mkdtemp(prefix="full_disk_")).resolve()
    campaign = Campaign(folder, options.seed, 0.0, options.kind)
    kinds = [kind for kind in campaign.kinds if kind != "minutes"]  # it ends at another step each time
    full, failed, number = 0, 0, options.start
    while full < options.count:
        kind = kinds[number % len(kinds)]
        was_full, found = one_run(campaign, kind, number)
        full += was_full
        failed += bool(found)
        print(f"{number}_{kind}: {'; '.join(found[:5]) or 'equal'}, {full} full disks so far", flush=True)
        if found:
            repeat = f"--kind {kind} --seed {options.seed} --start {number} --count 1"
            print(f"    repeat: python -m tests.campaigns.full_disk {repeat}", flush=True)
        number += 1
    print(
        f"full_disk: {full} full disks in {number - options.start} runs of {len(kinds)} kinds, "
        f"{failed} failures; seed {options.seed}"
    )
    if not failed:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The files that a fit passes are those that docs/explanation/architecture.md lists, and they are few."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
LIMIT = 30

TRACER = """
import sys, threading

root, *arguments = sys.argv[1:]
ours = tuple(f"{root}/{package}/" for package in ("experiments", "lit_modules", "datamodules"))
files = set()

def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(ours) and not code.co_name.startswith("<"):
        if code.co_flags & 1:  # a function, not the body of a class
            files.add(code.co_filename[len(root) + 1 :])

from experiments.launch import main
sys.setprofile(note)
threading.setprofile(note)
status = main(arguments)
sys.setprofile(None)
print("FILES", *sorted(files))
sys.exit(status)
"""


def section() -> tuple[list[str], list[str]]:
    """The files of the path, in order, and the files beside it."""
    text = TEXT.partition("## From the command to the last metric")[2]
    path = re.findall(r"^\|[^|]*\| `([\w/]+\.py)` \|", text, re.M)
    items = re.findall(r"^- .*(?:\n  .*)*", text, re.M)
    return path, [file for item in items for file in re.findall(r"`([\w/]+\.py)`", item)]


def test_the_path_is_short_and_every_file_is_there() -> None:
    path, beside = section()
    assert len(path) <= LIMIT
    assert len({*path, *beside}) == len(path) + len(beside)
    assert [file for file in (*path, *beside) if not (REPOSITORY / file).is_file()] == []


@pytest.mark.slow
@pytest.mark.network
def test_a_fit_passes_the_listed_files_and_no_others(tmp_path: Path) -> None:
    batches = [f"trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]
    quiet = ["trainer.dashboard=false", "trainer.progress_bar=false", "trainer.max_epochs=1"]
    where = [f"data.root={REPOSITORY / 'data'}", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-c", TRACER, str(REPOSITORY), "configs/mnist_cnn.yaml", *batches, *quiet, *where],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    traced = set(done.stdout.partition("FILES ")[2].split())
    path, beside = section()
    assert traced | {"experiments/run.py"} == {*path, *beside}

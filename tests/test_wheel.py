"""An installed suite has what a checkout has: its code, configs, prompt sets and console command."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run(installed: Path, cwd: Path, *arguments: str) -> str:
    """Run Python on the unpacked wheel, in a folder that has nothing to do with it."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_every_file_of_the_packages_and_the_configs(installed: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "experiments", "lit_modules", "datamodules", "configs"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    places = [f"experiments/{name}" if name.startswith("configs/") else name for name in tracked]
    missing = [place for place in places if not (installed / place).is_file()]
    assert missing == []


def test_configs_are_listed_and_found_from_any_folder(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "-m", "experiments.run", "--list")
    assert [line.split()[0] for line in listed.splitlines()] == [
        f"configs/{path.name}" for path in sorted((REPOSITORY / "configs").glob("*.yaml"))
    ]
    by_name = run(installed, tmp_path, "-m", "experiments.run", "mnist_cnn", "debug", "--print-config")
    by_path = run(
        installed,
        tmp_path,
        "-m",
        "experiments.run",
        "configs/mnist_cnn.yaml",
        "configs/presets/debug.yaml",
        "--print-config",
    )
    assert by_name == by_path
    assert "name: mnist_cnn" in by_name


def test_a_prompt_set_is_found_by_name(installed: Path, tmp_path: Path) -> None:
    program = (
        "from datamodules.prompts.prompt_sets import read_prompt_set as r; print(len(r('yes_no').prompts))"
    )
    assert int(run(installed, tmp_path, "-c", program)) > 0


def test_a_config_runs(installed: Path, tmp_path: Path) -> None:
    said = run(installed, tmp_path, "-m", "experiments.run", "digits_study", "--dry-run")
    assert "dry run of digits_study" in said

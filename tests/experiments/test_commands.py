"""One table of commands serves the console command, the help, completion and the reference."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from experiments import commands
from experiments.__main__ import main
from experiments.commands import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_loaded_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(COMMANDS[name].load().main)
    try:
        status = main([name, "--help"])
    except SystemExit as done:  # argparse
        status = int(done.code or 0)
    assert status == 0
    assert "python -m experiments" in capsys.readouterr().out


def test_every_module_that_runs_as_a_command_is_in_the_table() -> None:
    package = Path(commands.__file__).parent
    runnable = {
        path for path in package.rglob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    }
    runnable -= {package / "run.py", package / "__main__.py", package / "config" / "reference.py"}
    listed = {Path(command.load().__file__ or "") for name, command in COMMANDS.items() if name != "run"}
    assert listed == runnable


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=str)
def test_the_console_command_alone_lists_all_commands(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name} " in printed
        assert command.help in printed


def test_an_unknown_command_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smple", "--debug"]) == 2
    assert "unknown command 'smple' (did you mean sample?); choose from run, " in capsys.readouterr().err


def test_the_version_is_that_of_the_installed_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    asked: list[str] = []
    monkeypatch.setattr("importlib.metadata.version", lambda name: asked.append(name) or "1.2.3")
    assert main(["--version"]) == 0
    assert (capsys.readouterr().out, asked) == ("experiments 1.2.3\n", [project["name"]])


def test_the_console_command_is_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--print-config", "mnist_mlp"]) == 0
    ours = capsys.readouterr().out
    command = [sys.executable, "-m", "experiments.run", "mnist_mlp", "--print-config"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ours


QUICK = [
    ["experiments"],
    ["experiments.run", "--help"],
    ["experiments.run", "mnist_cnn", "--help"],
    ["experiments.run", "--list"],
    ["experiments.run", "mnist_cnn", "--print-config"],
    ["experiments.completion", "--line", "experiments run mnist_cnn optimizer."],
    ["experiments.completion", "--line", "experiments evaluate --"],
    ["experiments.completion", "--line", "experiments demo so"],
    ["experiments.demo", "--list"],
    *([COMMANDS[name].place, "--help"] for name in COMMANDS if name not in ("run", "completion")),
]


@pytest.mark.slow
@pytest.mark.parametrize("command", QUICK, ids=" ".join)
def test_what_only_informs_imports_nothing_slow(command: list[str]) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv[1:] = {command[1:]!r}\n"
        "try:\n"
        f"    runpy.run_module({command[0]!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as done:\n"
        "    assert not done.code, done.code\n"
        "slow = {'torch', 'lightning', 'torchmetrics', 'sklearn', 'matplotlib'}\n"
        "assert not slow & sys.modules.keys(), slow & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_says_what_it_runs_before_it_imports_anything_slow() -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['lightning'] = None  # importing either fails\n"
        "from experiments.launch import main\n"
        "main(['mnist_mlp', 'trainer.max_epochs=1'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "mnist_mlp: mlp on mnist\n"
    assert "torch" in done.stderr or "lightning" in done.stderr

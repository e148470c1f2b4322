"""A line is completed by commands, configs, keys and values, in each shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.commands import COMMANDS
from experiments.completion import SCRIPTS, complete, main
from experiments.config import registry
from experiments.config.sources import PUBLISHED


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("experiments ", list(COMMANDS)),
        ("experiments ev", ["evaluate"]),
        ("/usr/bin/experiments  sam", ["sample"]),
        ("experiments nothing ", []),
        ("experiments completion ", ["bash", "zsh", "fish"]),
        ("experiments extract --posi", ["--position"]),
        ("experiments extract --position ", ["last", "mean"]),
        ("experiments run ", [path.stem for path in sorted(PUBLISHED.rglob("*.yaml"))]),
        ("experiments run mnist_ml", ["mnist_mlp", "mnist_mlp_best"]),
        ("experiments run mnist_mlp debu", ["debug"]),
        ("experiments run mnist_mlp --pr", ["--print-config"]),
        ("experiments run mnist_mlp opt", ["optimizers_compare", "optimizer."]),
        (
            "experiments run mnist_mlp optimizer.",
            [
                f"optimizer.{key}="
                for key in ("name", "lr", "momentum", "nesterov", "weight_decay", "implementation")
            ],
        ),
        ("experiments run mnist_mlp data.augment.sh", ["data.augment.shift=", "data.augment.shear="]),
        ("experiments run mnist_mlp data.pipeline=t", ["data.pipeline=torchvision"]),
        ("experiments run mnist_mlp optimizer.nesterov=f", ["optimizer.nesterov=false"]),
        ("experiments run mnist_mlp optimizer.lr=", []),
        ("experiments run data.name=", [f"data.name={name}" for name in registry.CATALOG["data"]]),
        ("experiments run no_such_config trainer.profiler=s", ["trainer.profiler=simple"]),
    ],
)
def test_a_line_is_completed_by_what_can_follow(line: str, words: list[str]) -> None:
    assert complete(line) == words


def test_the_command_prints_a_script_or_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bash"]) == 0
    assert capsys.readouterr().out == SCRIPTS["bash"]
    assert main(["--line", "experiments run mnist_ml"]) == 0
    assert capsys.readouterr().out == "mnist_mlp\nmnist_mlp_best\n"
    assert main([]) == 2
    assert "name a shell: bash, zsh, fish" in capsys.readouterr().err


SHELLS = {
    "bash": (
        'COMP_LINE="experiments run mnist_mlp {word}"; COMP_POINT=${{#COMP_LINE}}; _experiments\n'
        'printf "%s\\n" "${{COMPREPLY[@]}}"'
    ),
    # Stands in for the completion system, which needs a terminal.
    "zsh": (
        'compadd() {{ [[ $1 == -S ]] && shift 2; shift; (( $# )) && print -l -- "$@"; }}; _files() {{ : }}\n'
        'words=(experiments run mnist_mlp "{word}"); CURRENT=4; _experiments'
    ),
    "fish": 'complete -C "experiments run mnist_mlp {word}"',
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "expected", "bash"),
    [
        ("data.augment.sh", ["data.augment.shift=", "data.augment.shear="], None),
        ("data.pipeline=t", ["data.pipeline=torchvision"], ["torchvision"]),
        ("debu", ["debug"], None),
    ],
)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_takes_the_words(
    shell: str, word: str, expected: list[str], bash: list[str] | None, tmp_path: Path
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command = tmp_path / "experiments"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m experiments "$@"\n')
    command.chmod(0o755)
    setup = "compdef() { : }\n" if shell == "zsh" else ""
    program = f"{setup}{SCRIPTS[shell]}\n{SHELLS[shell].format(word=word)}"
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [shell, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    found = [line.split("\t")[0] for line in done.stdout.splitlines() if line]
    assert sorted(found) == sorted(bash if shell == "bash" and bash else expected), done.stderr

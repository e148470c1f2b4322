"""Ctrl-C during the imports of a command is one word and status 130."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.commands import COMMANDS

INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_during_the_imports_of_a_command(name: str, tmp_path: Path) -> None:
    """A module that every command imports early stands for a slow one."""
    (tmp_path / "difflib.py").write_text(INTERRUPT)
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_program_that_imports_the_suite_keeps_its_handler() -> None:
    code = "import signal, experiments; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"

"""The README's commands and Python blocks do what it says; the long ones run with a small budget."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")

BUDGET = [
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "trainer.dashboard=false",
    f"data.root={REPOSITORY / 'data'}",
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def commands() -> list[str]:
    lines = [line.partition(" #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


def small(arguments: list[str]) -> list[str]:
    """The same command with a small budget."""
    if arguments[0].startswith("resume="):  # the run's own config has the budget
        return arguments
    if "configs/digits_study.yaml" in arguments:
        return [*arguments, "seeds=[0]", "trainer.max_epochs=1"]
    shorter = ["seeds=[0,1]" if a.startswith("seeds=") else a for a in arguments]
    return shorter if any(a in ("--list", "--help") for a in arguments) else [*shorter, *BUDGET]


def test_both_opening_commands_set_everything_up_and_ci_runs_the_second() -> None:
    first, second = (line for line in commands() if "venv" in line)
    assert first.startswith("python3 -m venv .venv && ")
    assert second.endswith("-m pytest")
    assert second in (REPOSITORY / ".ci" / "run").read_text().splitlines()


def test_every_command_is_one_this_file_knows_to_run() -> None:
    known = ("python3 -m venv", "python -m experiments.", "tensorboard --logdir")
    assert [line for line in commands() if not line.startswith(known)] == []
    assert Path(sys.executable).with_name("tensorboard").exists() or sys.platform == "win32"


def test_the_commands_run_in_the_readmes_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    image = np.zeros((40, 40), dtype=np.uint8)
    image[6:34, 18:23] = 255  # a one
    Image.fromarray(image).save("digit.png")
    ran = 0
    for line in commands():
        match = re.search(r"python -m (experiments\.\w+)(.*)$", line)
        if match is None:
            continue
        name, arguments = match[1], shlex.split(match[2])
        expected = 0
        if name == "experiments.run":
            arguments = small(arguments)
            if any("gpu.yaml" in a or "ddp.yaml" in a for a in arguments) and not torch.cuda.is_available():
                expected = 2
        elif name == "experiments.benchmark" and not arguments[0].startswith("--"):
            arguments = [*arguments, "--quick"]
        elif name == "experiments.evaluate":
            arguments = [*arguments, f"data.root={REPOSITORY / 'data'}"]
        packaged = hasattr(importlib.import_module(name), "__path__")
        module = (
            "experiments.launch" if name == "experiments.run" else f"{name}.__main__" if packaged else name
        )
        status = importlib.import_module(module).main(arguments)
        printed = capsys.readouterr()
        assert status == expected, f"{line}\n{printed.out}\n{printed.err}"
        if expected == 2:
            assert "this machine has no such device" in printed.err
        ran += 1
    assert ran >= 20


@pytest.mark.parametrize("block", blocks("python"), ids=["from_python", "own_experiment"])
def test_the_python_blocks_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    budget = ", ".join(f'"{b}"' for b in BUDGET)
    small_block = block.replace('"trainer.max_epochs=1")', f'"trainer.max_epochs=1", {budget})')
    small_block = small_block.replace(
        '"data.name": "digits"})', '"data.name": "digits", "trainer.max_epochs": 1})'
    )
    assert small_block != block
    scope = {"__name__": "__main__"}
    exec(compile(small_block, "README.md", "exec"), scope)  # our own text
    accuracy = scope["result"].metrics["test/accuracy"]  # type: ignore[attr-defined]
    assert 0 <= accuracy <= 1
    assert (scope["result"].run_dir / "metrics.json").exists()  # type: ignore[attr-defined]

"""Every command passes under `python -W error`: no library's warning ends it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import experiments
from experiments.commands import COMMANDS

PROGRAM = """
import json, sys
from experiments.commands import COMMANDS
for name, *arguments in json.loads(sys.argv[1]):
    status = COMMANDS[name].load().main(arguments)
    if status:
        sys.exit(f"{name} {arguments}: status {status}")
"""

PROCESSES = [
    [
        "evaluate RUN",
        "compare RUN TEXT_RUN --output comparison",
        "steering vector TEXT_RUN --plus cat --minus mat --layer 1 -o vector.safetensors",
        "steering.floor RUN --width 32 --size 160 --hidden 16 --output floor.png",
    ],
    [
        "predict RUN grey.png",
        "sample TEXT_RUN --prompt cat --max-new-tokens 8",
        "benchmark recurrent --quick",
    ],
    [
        "extract TEXT_RUN animals --layers 1 --output states.safetensors",
        "evaluate TEXT_RUN --text cat.txt",
        "demo focal_loss --plot demo.png",
    ],
    [
        "completion bash",
        "run tiny.yaml run_dir=again trainer.dashboard=true trainer.progress_bar=true",
    ],
    [f"benchmark {name} --quick" for name in ("launches", "decode", "extraction", "lm", "mnist")],
]
"""One process runs the commands of each list."""


def test_every_command_is_tried() -> None:
    assert {line.split()[0] for lines in PROCESSES for line in lines} == set(COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("lines", PROCESSES, ids=lambda lines: "+".join(line.split()[0] for line in lines))
def test_no_command_warns(
    lines: list[str],
    tiny: dict[str, Any],
    tiny_file: Path,
    language_run: Path,
    language_text: str,
    animals: Path,
) -> None:
    Path("cat.txt").write_text(language_text, encoding="utf-8")
    Image.linear_gradient("L").resize((8, 8)).save("grey.png")
    (animals / "templates.csv").write_text("families,split,template\n*,seen,{topic}\n*,unseen,a {topic}\n")
    completions = animals / "completions.csv"  # a prompt and its answer must fit into 16 tokens
    completions.write_text(
        completions.read_text(encoding="utf-8").replace("on the mat", "mat"), encoding="utf-8"
    )
    experiments.run(tiny, "trainer.max_epochs=1", "run_dir=finished")
    places = {"RUN": "finished", "TEXT_RUN": str(language_run)}
    given = json.dumps([[places.get(word, word) for word in line.split()] for line in lines])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr

"""The Python door is quick to import and says what is wrong."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.errors import UserError


def test_the_python_door_is_a_function_that_imports_no_torch_by_itself() -> None:
    program = (
        "import sys, experiments.launch; from experiments import run\nassert 'torch' not in sys.modules\n"
        "try:\n    run('nowhere.yaml')\nexcept ValueError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "nowhere.yaml" in done.stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variants": {"a": {}, "b": {"trainer.accelerator": "tpu"}}}, r"trainer\.accelerator = 'tpu'"),
        ({"stages": {"a": {}, "b": {"trainer.accelerator": "tpu"}}}, r"trainer\.accelerator = 'tpu'"),
        ({"trainer.devices": 100_000}, r"trainer\.devices = 100000"),
        ({"data": {"name": "table", "path": "missing.csv", "target": "y"}}, r"missing\.csv"),
        ({"seeds": [0, 1], "resume": "missing"}, r"resume=missing: there is no study or chain"),
        ({"stages": {"a": {}, "b": {}}, "resume": "missing"}, r"resume=missing: there is no study or chain"),
    ],
)
def test_what_is_refused_leaves_nothing(
    settings: dict[str, Any], message: str, tiny: dict[str, Any], work: Path
) -> None:
    base = {**tiny, "model": {"name": "table_classifier"}} if "data" in settings else tiny
    if "data" in settings:
        base = {key: value for key, value in base.items() if key != "data"}
    with pytest.raises(UserError, match=message):
        experiments.run(base, settings)
    assert not list(work.iterdir())

"""The Python door is quick to import and says what is wrong."""

import subprocess
import sys


def test_the_python_door_is_a_function_that_imports_no_torch_by_itself() -> None:
    program = (
        "import sys, experiments.launch; from experiments import run\nassert 'torch' not in sys.modules\n"
        "try:\n    run('nowhere.yaml')\nexcept ValueError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "nowhere.yaml" in done.stdout

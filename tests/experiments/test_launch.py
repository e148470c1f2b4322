"""The Python door and the command lead to the same place, in any order of imports."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "imports",
    [
        "import experiments.run; from experiments import run",
        "from experiments import run; import experiments.run",
        "import experiments; import experiments.run; run = experiments.run",
        "import experiments.launch; run = experiments.run",
    ],
)
def test_run_is_the_function_whatever_was_imported_before(imports: str) -> None:
    program = (
        f"import sys; {imports}\nassert 'torch' not in sys.modules\n"
        "try:\n    run('nowhere.yaml')\nexcept ValueError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "nowhere.yaml" in done.stdout

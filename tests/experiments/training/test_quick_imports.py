"""Lightning is imported without the packages that only other people's metrics need."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_packages_that_are_not_needed_stay_out() -> None:
    """If this fails, lightning_utilities looks for optional packages in another way: see `quick_imports`."""
    program = (
        "import sys\n"
        "from experiments.training.quick_imports import NOT_NEEDED, import_torchmetrics\n"
        "import_torchmetrics()\n"
        "import lightning\n"
        "from torchmetrics import MeanMetric\n"
        "found = set(NOT_NEEDED) & sys.modules.keys()\n"
        "assert not found, found\n"
        "mean = MeanMetric()\n"
        "mean.update([1.0, 2.0])\n"
        "assert mean.compute() == 1.5\n"
        "import torchvision, scipy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

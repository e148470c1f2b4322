"""Lightning is imported without the packages that only other people's metrics need."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_packages_that_are_not_needed_stay_out() -> None:
    """If this fails, lightning_utilities looks for optional packages in another way: see `quick_imports`."""
    program = (
        "import sys\n"
        "from experiments.training.quick_imports import NOT_NEEDED, import_lightning\n"
        "import_lightning()\n"
        "from torchmetrics import MeanMetric\n"
        "import lightning\n"
        "from lightning.pytorch.utilities.compile import OptimizedModule\n"
        "import torch\n"
        "found = {*NOT_NEEDED, 'torch._dynamo', 'sympy', 'triton'} & sys.modules.keys()\n"
        "assert not found, found\n"
        "mean = MeanMetric()\n"
        "mean.update([1.0, 2.0])\n"
        "assert mean.compute() == 1.5\n"
        "plain = torch.nn.Linear(2, 2)\n"
        "assert not isinstance(plain, OptimizedModule)\n"
        "assert torch.compile(plain, backend='eager')(torch.ones(2)).shape == (2,)\n"
        "assert isinstance(torch.compile(plain, backend='eager'), OptimizedModule)\n"
        "import torchvision, scipy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_a_stand_in_lacks_comes_from_the_package() -> None:
    program = (
        "from experiments.training import quick_imports\n"
        "with quick_imports._stand_in('torch._dynamo'), quick_imports._stand_in('triton'):\n"
        "    import torch\n"
        "    assert isinstance(torch._dynamo, quick_imports._StandIn)\n"
        "    assert callable(torch._dynamo.reset)\n"
        "    assert not isinstance(torch._dynamo, quick_imports._StandIn)\n"
        "import torch._dynamo.config\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

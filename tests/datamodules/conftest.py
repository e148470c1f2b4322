"""Real data for the tests of this folder, kept in the repository's data folder from one run to the next."""

from pathlib import Path

import pytest

from datamodules.assets.fetch import fetch
from datamodules.configs.mnist import MNISTConfig
from datamodules.mnist import MNISTDataModule


@pytest.fixture(scope="session")
def data_root() -> Path:
    return Path(__file__).parents[2] / "data"


@pytest.fixture(scope="session")
def mnist_folder(data_root: Path) -> Path:
    return fetch("mnist", data_root)


@pytest.fixture(scope="session")
def mnist(mnist_folder: Path) -> MNISTDataModule:
    """Set up and not to be changed."""
    module = MNISTDataModule(MNISTConfig(root=str(mnist_folder.parent)))
    module.setup()
    return module

"""Import torchmetrics, and with it Lightning, without packages that the suite's metrics do not need.

torchmetrics imports each optional package that is installed: torchvision (and with it Dynamo), scipy,
transformers and matplotlib. On two cores this took 4 of the 9 seconds that `experiments.predict` needed.
"""

import sys
from importlib.metadata import PackageNotFoundError
from unittest.mock import patch

NOT_NEEDED = ("matplotlib", "scipy", "torchvision", "transformers")


def import_torchmetrics() -> None:
    """Import torchmetrics as if the packages in `NOT_NEEDED` were not installed.

    The packages can still be imported later, but the metrics of torchmetrics that need them stay unavailable
    in this process. A program with its own LightningModule has imported torchmetrics before; then this
    function does nothing.
    """
    if "torchmetrics" in sys.modules:
        return
    from lightning_utilities.core import imports

    if not {"_version", "package_available"} <= vars(imports).keys():
        return  # Another version of lightning_utilities: the imports are slow, but complete.
    version, package_available = imports._version, imports.package_available

    def version_if_needed(name: str) -> str:
        if name in NOT_NEEDED:
            raise PackageNotFoundError(name)
        return version(name)

    def available_if_needed(name: str) -> bool:
        return name not in NOT_NEEDED and package_available(name)

    with (
        patch.object(imports, "_version", version_if_needed),
        patch.object(imports, "package_available", available_if_needed),
    ):
        import torchmetrics  # noqa: F401

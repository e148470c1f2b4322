"""The schemas' own checks, and that reading them costs nothing."""

import subprocess
import sys
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from datamodules.configs.mnist import AugmentConfig, DigitsConfig, FashionMNISTConfig, MNISTConfig


@pytest.mark.parametrize(
    ("schema", "values", "message"),
    [
        (MNISTConfig, {"val_size": 60_000}, "val_size: 60000 leaves nothing"),
        (MNISTConfig, {"train_samples": 55_001}, "train_samples: 55001 is more than the 55000"),
        (FashionMNISTConfig, {"val_size": 10_000, "train_samples": 50_001}, "more than the 50000"),
        (DigitsConfig, {"val_size": 2000}, "less than the 1437"),
        (MNISTConfig, {"num_workers": 2}, "num_workers: 2 needs data.pipeline torchvision"),
    ],
)
def test_what_does_not_fit_together_is_refused(schema: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schema(**values)


def test_the_largest_training_sets_are_allowed() -> None:
    assert MNISTConfig(train_samples=55_000).train_samples == 55_000
    assert DigitsConfig(val_size=1436, pipeline="torchvision", num_workers=2).val_size == 1436


@pytest.mark.parametrize("schema", [AugmentConfig, MNISTConfig, FashionMNISTConfig, DigitsConfig])
def test_every_field_has_help_and_a_default_in_its_range(schema: Any) -> None:
    config = schema()
    for field in fields(schema):
        assert field.metadata["help"].endswith(".")
        value = getattr(config, field.name)
        if value is not None and not is_dataclass(value):
            assert value >= field.metadata.get("min", value)


def test_schemas_import_no_torch() -> None:
    code = "import sys, datamodules.configs.mnist, datamodules.info; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

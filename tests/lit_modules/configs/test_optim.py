import subprocess
import sys
from dataclasses import fields

import pytest

from lit_modules.configs import optim as optim_config
from lit_modules.configs.optim import AdamConfig, AdamWConfig, MuonConfig, SGDConfig

SCHEMAS = [
    entry for name, entry in vars(optim_config).items() if name.endswith("Config") and isinstance(entry, type)
]


def test_reading_the_schemas_imports_no_torch() -> None:
    code = "import sys, lit_modules.configs.optim; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_every_field_has_help_and_a_default_within_its_range(schema) -> None:
    config = schema()
    for entry in fields(schema):
        assert entry.metadata["help"].endswith(".")
        value = getattr(config, entry.name)
        for number in value if isinstance(value, list) else [value]:
            if "min" in entry.metadata:
                assert number >= entry.metadata["min"]
            if "max" in entry.metadata:
                assert number <= entry.metadata["max"]
            if "above" in entry.metadata:
                assert number > entry.metadata["above"]
            if "below" in entry.metadata:
                assert number < entry.metadata["below"]


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match=r"nesterov: true needs momentum above 0, but it is 0\.0"):
        SGDConfig(nesterov=True)
    assert SGDConfig(nesterov=True, momentum=0.5).nesterov


@pytest.mark.parametrize(
    ("schema", "key"), [(AdamConfig, "betas"), (AdamWConfig, "betas"), (MuonConfig, "adamw_betas")]
)
def test_betas_are_two(schema, key) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: \[0\.9\] has 1 entries, expected 2"):
        schema(**{key: [0.9]})

"""The table of assets."""

import pytest

from datamodules.assets.asset_catalog import ASSETS


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_every_entry_is_complete(name: str) -> None:
    entry = ASSETS[name]
    assert entry.licence
    assert entry.description.endswith(".")
    assert len(entry.sources) >= 2
    assert len({m.name for m in entry.members}) == len(entry.members)
    for member in entry.members:
        assert len(bytes.fromhex(member.sha256)) == 32
        assert member.size > 0

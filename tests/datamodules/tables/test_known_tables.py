import pytest
import torch
from sklearn import datasets

from datamodules.configs.table import LIBRARY_TABLES
from datamodules.tables.known_tables import known_table


@pytest.mark.parametrize("name", LIBRARY_TABLES)
def test_a_table_of_the_library_is_the_librarys(name: str) -> None:
    rows = known_table(name)
    assert rows is not None
    raw = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    torch.testing.assert_close(rows.features, torch.from_numpy(raw.data).double())
    assert rows.targets.flatten().tolist() == raw.target.tolist()
    assert rows.feature_names == tuple(raw.feature_names)
    assert len(rows.class_names) == (0 if name == "diabetes" else len(raw.target_names))


def test_made_up_tables() -> None:
    line, pairs = known_table("line"), known_table("random_pairs")
    assert line is not None
    assert pairs is not None
    assert torch.equal(line.targets, 2 * line.features)
    assert pairs.features.shape == (192, 576)
    assert pairs.targets.shape == (192, 10)
    assert pairs.part is not None
    assert pairs.part.bincount().tolist() == [64, 64, 64]
    assert known_table("nonesuch") is None

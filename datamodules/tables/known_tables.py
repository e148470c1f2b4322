"""Tables by name: real ones that scikit-learn carries, and two made-up ones for lessons."""

from collections.abc import Callable

import torch

from datamodules.configs.table import LIBRARY_TABLES
from datamodules.loading.epoch_loader import mix_seed
from datamodules.tables.table_rows import TableRows


def known_table(name: str) -> TableRows | None:
    """Return the table of a name; None if there is none."""
    if name in LIBRARY_TABLES:
        return _library_table(name)
    return _MADE_UP[name]() if name in _MADE_UP else None


def _library_table(name: str) -> TableRows:
    """Read a table from scikit-learn."""
    from sklearn import datasets

    load = getattr(datasets, f"load_{name}")
    found = load(scaled=False) if name == "diabetes" else load()
    targets = torch.from_numpy(found.target.copy())
    classes = name != "diabetes"
    return TableRows(
        feature_names=tuple(map(str, found.feature_names)),
        target_names=("progression" if name == "diabetes" else "class",),
        features=torch.from_numpy(found.data.copy()).double(),
        targets=targets.long() if classes else targets.double().unsqueeze(1),
        class_names=tuple(map(str, found.target_names)) if classes else (),
    )


def _line() -> TableRows:
    """Return y = 2x at x = 1, 2, 3 for training, 4, 5 for validation, and 6, 7 for the test."""
    x = torch.arange(1, 8, dtype=torch.float64).unsqueeze(1)
    return TableRows(
        feature_names=("x",),
        target_names=("y",),
        features=x,
        targets=2 * x,
        part=torch.tensor([0, 0, 0, 1, 1, 2, 2]),
    )


def _random_pairs() -> TableRows:
    """Return 64 pairs for each split of 576 inputs and 10 targets, all independent and standard normal."""
    generator = torch.Generator().manual_seed(mix_seed(0))
    numbers = torch.randn(3 * 64, 576 + 10, generator=generator, dtype=torch.float64)
    return TableRows(
        feature_names=tuple(f"x{i}" for i in range(576)),
        target_names=tuple(f"y{i}" for i in range(10)),
        features=numbers[:, :576],
        targets=numbers[:, 576:],
        part=torch.arange(3).repeat_interleave(64),
    )


_MADE_UP: dict[str, Callable[[], TableRows]] = {"line": _line, "random_pairs": _random_pairs}

"""Tables of numbers as a LightningDataModule.

Shape letters: N rows, B batch, D features, T targets.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.base import PARTS, ResidentDataModule
from datamodules.configs.table import TableConfig
from datamodules.info import LabelledTableInfo, TableInfo
from datamodules.loading.split import split_parts
from datamodules.tables.known_tables import known_table
from datamodules.tables.table_file import read_table


class TableDataModule(ResidentDataModule):
    """Batches of features, float32 (B, D), and of targets: float32 (B, T), or classes int64 (B,).

    With `missing` at `mean`, missing features become the mean of the training rows. All means and standard
    deviations are those of the training rows.
    """

    config: TableConfig
    info: TableInfo | LabelledTableInfo

    def setup(self, stage: str | None = None) -> None:
        """Read and split the table; a second call changes nothing.

        Raises:
            ValueError: The file is missing or malformed, a value overflows, or a split has less than two
                rows.
        """
        if self._info is not None:
            return
        config = self.config
        rows = known_table(config.path) or read_table(Path(config.path), config)
        size = len(rows.features)
        val, test = round(size * config.val_fraction), round(size * config.test_fraction)
        part = rows.part
        if part is None:
            part = split_parts(
                rows.targets,
                val=val,
                test=test,
                seed=config.split_seed,
                folds=config.folds,
                fold=config.fold,
            )
        elif config.folds:
            raise ValueError(f"{config.path} has splits of its own, which can't be folds; remove data.folds")
        if bool((part.bincount(minlength=3) < 2).any()):
            raise ValueError(f"{config.path} has {size} rows, too few for three splits of two rows each")
        mean, std = moments(rows.features[part == 0])
        features = torch.where(rows.features.isnan(), mean, rows.features)
        if config.standardize:
            features = (features - mean) / std
        numbers = rows.targets.is_floating_point()
        _check_range(features.float().isfinite().all(0) & std.isfinite(), rows.feature_names, config.path)
        if numbers:
            _check_range(rows.targets.float().isfinite().all(0), rows.target_names, config.path)
        targets = rows.targets.float() if numbers else rows.targets
        self._parts = {
            name: (features[part == code].float(), targets[part == code]) for code, name in enumerate(PARTS)
        }
        shared: dict[str, Any] = {
            **{f"{name}_size": len(self._parts[name][0]) for name in PARTS},
            "input_shape": (len(rows.feature_names),),
            "feature_names": rows.feature_names,
            "mean": tuple(mean.tolist()),
            "std": tuple(std.tolist()),
        }
        if numbers:
            target_mean, target_std = moments(rows.targets[part == 0])
            self._info = TableInfo(
                **shared,
                target_names=rows.target_names,
                target_mean=tuple(target_mean.tolist()),
                target_std=tuple(target_std.tolist()),
            )
        else:
            self._info = LabelledTableInfo(**shared, class_names=rows.class_names)


def _check_range(is_finite: Tensor, names: tuple[str, ...], path: str) -> None:
    """Check that the values of each column are finite in fp32, and so is their standard deviation.

    Raises:
        ValueError: They are not; names the first such column.
    """
    if not is_finite.all():
        name = names[int(is_finite.long().argmin())]
        raise ValueError(f"{path}, column {name!r}: a value is too large; write the column in a larger unit")


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (divisor N) of each column, without NaN.

    A column of NaN has mean 0, and one of equal values standard deviation 1.
    """
    mean = values.nanmean(0).nan_to_num(0.0)
    std = (values - mean).square().nanmean(0).nan_to_num(0.0).sqrt()
    return mean, torch.where(std > 1e-12 * mean.abs(), std, 1.0)

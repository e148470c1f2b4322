"""Settings of cross-validation; importing them imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class FoldsConfig:
    """Settings of a data set whose examples can be dealt to folds."""

    folds: int | None = setting(
        None, "Number of folds of a cross-validation; null: no folds.", min=2, max=1000, evaluation="same"
    )
    fold: int = setting(
        0,
        "Fold used as the test split, modulo the number of folds, so that ${seed} may be any number.",
        min=0,
        evaluation="same",
    )

"""Settings of splits and of cross-validation; importing them imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class FoldsConfig:
    """Settings of a data set that can be divided into folds."""

    folds: int | None = setting(
        None, "Number of folds of a cross-validation; null: no folds.", min=2, max=1000, evaluation="same"
    )
    fold: int = setting(
        0,
        "Fold that is the test split, counted from 0. Counting starts again after the last fold, so ${seed} "
        "may be any number.",
        min=0,
        evaluation="same",
    )


@dataclass(kw_only=True)
class SplitConfig(FoldsConfig):
    """Settings of a data set that is split by shares."""

    val_fraction: float = setting(
        0.1, "Share of the data held out for validation.", above=0, below=1, evaluation="same"
    )
    test_fraction: float = setting(
        0.1, "Share of the data held out for the test.", above=0, below=1, evaluation="same"
    )

    def __post_init__(self) -> None:
        check_fractions(self.val_fraction, 1 / self.folds if self.folds else self.test_fraction)


@dataclass(kw_only=True)
class OwnFilesConfig(SplitConfig):
    """Settings of your own data, in which validation and test may have files of their own."""

    val_path: str | None = setting(
        None,
        "File or folder of the validation data; null holds out val_fraction of path.",
        is_path=True,
        evaluation="same",
    )
    test_path: str | None = setting(
        None, "File or folder of the test data; null holds out test_fraction of path.", is_path=True
    )

    @property
    def own_paths(self) -> dict[str, str]:
        """The paths of the splits that are not held out of `path`."""
        paths = {"val": self.val_path, "test": self.test_path}
        return {name: path for name, path in paths.items() if path is not None}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds and self.test_path is not None:
            raise ValueError("test_path: with data.folds a fold of path is the test split; remove test_path")


def check_fractions(val: float, test: float) -> None:
    """Check that validation and test leave data for training.

    Raises:
        ValueError: They leave none.
    """
    if val + test >= 1:
        raise ValueError(
            f"val_fraction {val} and test_fraction {test} leave no training data; their sum must be below 1"
        )

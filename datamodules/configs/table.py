"""Schema of tables of numbers; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.configs.split import SplitConfig
from datamodules.setting import setting

LIBRARY_TABLES = ("breast_cancer", "diabetes", "iris", "wine")
"""Tables that scikit-learn carries."""


@dataclass(kw_only=True)
class TableConfig(SplitConfig):
    """A table with one target column: a CSV or Parquet file, or a table by name.

    Names: `breast_cancer`, `diabetes`, `iris` and `wine` of scikit-learn; `line` is y = 2x at seven points,
    `random_pairs` 3 × 64 pairs of random vectors, 576 → 10.
    """

    path: str = setting(
        "breast_cancer",
        "CSV or Parquet file, or a table by name: breast_cancer, diabetes, iris, wine, line, random_pairs.",
        is_path=True,
    )
    target: str | int | None = setting(
        None, "Target column of a file, by name or by number from 1; null: the last."
    )
    task: Literal["auto", "classes", "numbers"] = setting(
        "auto",
        "What the target of a file is. auto: classes if it has words, or at most 20 different whole numbers.",
    )
    header: bool | None = setting(
        None, "Whether a CSV file begins with names; null: it does if no cell of line 1 is a number."
    )
    delimiter: str = setting(",", "Character between two cells of a CSV file.")
    columns: list[str] = setting([], "Columns of a file to learn from; empty: all but the target.")
    ignore: list[str] = setting([], "Columns of a file to leave out, such as an identifier.")
    missing: Literal["refuse", "mean", "drop"] = setting(
        "refuse",
        "What to do with an empty cell: refuse the file, take the mean of the training rows, drop the row.",
    )
    standardize: bool = setting(
        True, "Subtract the mean of each feature and divide by its standard deviation, over training rows."
    )
    val_fraction: float = setting(
        0.2, "Share of the rows held out for validation.", above=0, below=1, evaluation="same"
    )
    test_fraction: float = setting(
        0.2, "Share of the rows held out for the test.", above=0, below=1, evaluation="same"
    )
    split_seed: int = setting(
        0, "Seed of the split, independent of the seed of the run.", min=0, evaluation="same"
    )
    batch_size: int = setting(
        32, "Training rows per step and device; a larger number than there are takes all.", min=1
    )
    eval_batch_size: int = setting(
        1000, "Largest number of rows in a validation or test batch.", min=1, evaluation="free"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.delimiter) != 1:
            raise ValueError(f"delimiter: {self.delimiter!r} must be one character")

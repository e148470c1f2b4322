"""A table of numbers with its target, before it is split.

Shape letters: N rows, D features, T targets.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """The rows of a table.

    Attributes:
        feature_names: The D columns that a model reads.
        target_names: The T columns that it predicts.
        features: float64 (N, D); NaN where a value is missing.
        targets: Real numbers, float64 (N, T), or class indices, int64 (N,).
        class_names: Names of the classes, by index; empty for real numbers.
        part: The split of each row, int64 (N,): 0 training, 1 validation, 2 test; None to draw one.
    """

    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    features: Tensor
    targets: Tensor
    class_names: tuple[str, ...] = ()
    part: Tensor | None = None

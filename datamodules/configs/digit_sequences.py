"""Schema of the digit sequences; importing it imports no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from datamodules.setting import setting

LONGEST = 18
"""Strings are sampled as numbers, and numbers of this many digits fit in 64 bits."""


@dataclass(kw_only=True)
class DigitSequencesConfig:
    """Strings of digits and a task on them.

    All strings differ, within a split and between splits.
    """

    NO_FOLDS: ClassVar[str] = "each split has new strings, which data.split_seed decides"

    task: Literal["reverse", "copy", "sort"] = setting(
        "reverse", "Target of a string: its digits reversed, unchanged or sorted."
    )
    min_length: int = setting(1, "Number of digits in the shortest strings.", min=1, max=LONGEST)
    max_length: int = setting(12, "Number of digits in the longest strings.", min=1, max=LONGEST)
    train_size: int = setting(20_000, "Number of training strings.", min=1, max=10_000_000)
    val_size: int = setting(1_000, "Number of validation strings.", min=1, max=10_000_000)
    test_size: int = setting(1_000, "Number of test strings.", min=1, max=10_000_000)
    split_seed: int = setting(0, "Seed that decides the strings of each split.", evaluation="same")
    batch_size: int = setting(128, "Number of training strings per step and device.", min=1, max=1 << 20)
    eval_batch_size: int = setting(
        500,
        "Largest number of strings in a validation or test batch, per device.",
        min=1,
        evaluation="free",
        max=1 << 20,
    )

    def __post_init__(self) -> None:
        if self.min_length > self.max_length:
            raise ValueError(
                f"min_length: {self.min_length} is more than max_length {self.max_length}; reduce it"
            )
        wanted = self.train_size + self.val_size + self.test_size
        available = sum(10**length for length in range(self.min_length, self.max_length + 1))
        if wanted > available:
            raise ValueError(
                f"train_size, val_size and test_size: their sum is {wanted}, but only {available} strings "
                f"have {self.min_length} to {self.max_length} digits; increase max_length or reduce the sizes"
            )

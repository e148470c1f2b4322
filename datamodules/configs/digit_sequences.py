"""Schema of the strings of digits; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting

LONGEST = 18
"""A string is drawn as a number, and these still fit in 64 bits."""


@dataclass(kw_only=True)
class DigitSequencesConfig:
    """Strings of digits of every length from the shortest to the longest, and what is to be done with them.

    No string is in two of the three parts, nor twice in one.
    """

    task: Literal["reverse", "copy", "sort"] = setting(
        "reverse", "What is to be written: the string backwards, as it is, or sorted."
    )
    min_length: int = setting(1, "Digits of the shortest strings.", min=1, max=LONGEST)
    max_length: int = setting(12, "Digits of the longest strings.", min=1, max=LONGEST)
    train_size: int = setting(20_000, "Strings to train on.", min=1)
    val_size: int = setting(1_000, "Strings for validation.", min=1)
    test_size: int = setting(1_000, "Strings for the test.", min=1)
    split_seed: int = setting(0, "Decides which strings there are in each part.", evaluation="same")
    batch_size: int = setting(128, "Training strings per step and device.", min=1)
    eval_batch_size: int = setting(
        500, "Largest validation or test batch, per device.", min=1, evaluation="free"
    )

    def __post_init__(self) -> None:
        if self.min_length > self.max_length:
            raise ValueError(
                f"min_length: {self.min_length} is more than max_length {self.max_length}; lower it"
            )
        wanted = self.train_size + self.val_size + self.test_size
        there_are = sum(10**length for length in range(self.min_length, self.max_length + 1))
        if wanted > there_are:
            raise ValueError(
                f"train_size, val_size and test_size: {wanted} strings are wanted, and only {there_are} have "
                f"{self.min_length} to {self.max_length} digits; raise max_length or ask for fewer"
            )

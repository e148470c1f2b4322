"""Schema of the addition problems; importing it imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting

MOST_DIGITS = 9


@dataclass(kw_only=True)
class AdditionConfig:
    """Sums of two numbers with a worked answer: the sum of each column with its carry, then the result.

    No problem occurs twice, in either order of its numbers, within a split or between splits.
    """

    min_digits: int = setting(2, "Number of digits of the shortest numbers.", min=1, max=MOST_DIGITS)
    max_digits: int = setting(3, "Number of digits of the longest numbers.", min=1, max=MOST_DIGITS)
    longer_by: int = setting(
        1,
        "Number of digits by which numbers of the longer problems are longer; test only.",
        min=1,
        max=3,
    )
    train_size: int = setting(2_000, "Number of training problems.", min=1, max=1_000_000)
    train_skip: int = setting(
        0,
        "Number of training problems to leave out. A later stage that skips those of an earlier one trains "
        "on fresh problems.",
        min=0,
        max=1_000_000,
    )
    val_size: int = setting(500, "Number of validation problems.", min=1, max=1_000_000)
    test_size: int = setting(1_000, "Number of test problems.", min=1, max=1_000_000)
    longer_size: int = setting(500, "Number of longer test problems.", min=1, max=1_000_000)
    split_seed: int = setting(0, "Seed that decides the problems of each split.", evaluation="same")
    batch_size: int = setting(64, "Number of training problems per step and device.", min=1, max=1 << 20)
    eval_batch_size: int = setting(
        500,
        "Largest number of problems in a validation or test batch, per device.",
        min=1,
        evaluation="free",
        max=1 << 20,
    )

    def __post_init__(self) -> None:
        if self.min_digits > self.max_digits:
            raise ValueError(
                f"min_digits: {self.min_digits} is more than max_digits {self.max_digits}; reduce it"
            )
        wanted = self.train_skip + self.train_size + self.val_size + self.test_size
        numbers = 10**self.max_digits - 10 ** (self.min_digits - 1)
        if wanted > (most := numbers * (numbers + 1) // 4):
            raise ValueError(
                f"train_skip, train_size, val_size and test_size: their sum is {wanted}, but at most {most} "
                f"is possible, half of the sums of numbers of {self.min_digits} to {self.max_digits} digits; "
                "increase max_digits or reduce the sizes"
            )

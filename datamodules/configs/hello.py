"""Schema of the one-word lesson; importing it imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from datamodules.setting import setting


@dataclass(kw_only=True)
class HelloConfig:
    """One word to read and another word of the same length to answer.

    Training, validation and test use this one pair. The lesson is to memorise it; the scores say nothing
    about other words.
    """

    NO_FOLDS: ClassVar[str] = "training, validation and test have the same pair"

    text: str = setting("hello", "Word to read, one character per step.")
    target: str = setting("ohlol", "Word to answer, one character for each character of text.")

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("text: it is empty, but needs at least one character")
        if len(self.text) != len(self.target):
            raise ValueError(
                f"target: {self.target!r} has {len(self.target)} characters and text {self.text!r} has "
                f"{len(self.text)}; both must have the same length"
            )

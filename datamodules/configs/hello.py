"""Schema of the one-word lesson; importing it imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class HelloConfig:
    """One word to read and another, equally long, to answer: the whole data set.

    Training, validation and test are this one pair: the lesson is to memorise it, and its scores say nothing
    of words that were never seen.
    """

    text: str = setting(
        "hello", "What is read, in training, validation and test alike; one character a step."
    )
    target: str = setting("ohlol", "What is to be answered, a character for each one read, equally long.")

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("text: it is empty, expected at least one character")
        if len(self.text) != len(self.target):
            raise ValueError(
                f"target: {self.target!r} has {len(self.target)} characters and text {self.text!r} has "
                f"{len(self.text)}; each character read needs one to answer"
            )

"""Schemas of the rewards; importing them imports no torch."""

from dataclasses import dataclass

from datamodules.setting import setting


@dataclass(kw_only=True)
class FinalAnswerConfig:
    """1 if the text after the last separator equals that of the given answer, else 0."""

    separator: str = setting(",", "What stands before the final answer.")

    def __post_init__(self) -> None:
        if not self.separator:
            raise ValueError("separator: '' separates nothing; give at least one character")

"""Schema of the pronouncing dictionary; importing it imports no torch."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(kw_only=True)
class PronunciationConfig:
    """Spelling to phonemes: the CMU Pronouncing Dictionary, or one of your own in its format.

    Parts are of words: all pronunciations of a word are in the same one.
    """

    root: str = field(default="data", metadata={"help": "Folder that holds downloaded data sets."})
    path: str | None = field(
        default=None,
        metadata={
            "help": "A dictionary file of your own, UTF-8, in the format of CMU's: a word and its phonemes a "
            "line; null: CMU's."
        },
    )
    stress: Literal["keep", "drop"] = field(
        default="keep",
        metadata={
            "help": "Whether vowels carry a stress, AH0, AH1 or AH2, or are AH alike. Where it is kept, "
            "errors are counted with and without it."
        },
    )
    batch_size: int = field(
        default=256, metadata={"help": "Largest training batch per device, in batch_unit.", "min": 1}
    )
    batch_unit: Literal["words", "tokens"] = field(
        default="words",
        metadata={
            "help": "What batch_size counts: pairs of a word and a pronunciation, or their letters and "
            "phonemes, so that all batches take about equally long."
        },
    )
    eval_batch_size: int = field(
        default=512, metadata={"help": "Largest validation or test batch, in words, per device.", "min": 1}
    )
    val_fraction: float = field(
        default=0.05, metadata={"help": "Share of the words for validation.", "above": 0, "below": 1}
    )
    test_fraction: float = field(
        default=0.05, metadata={"help": "Share of the words for the test.", "above": 0, "below": 1}
    )
    split_seed: int = field(
        default=0,
        metadata={"help": "Decides which word is in which part, whatever the run's own seed.", "min": 0},
    )
    train_words: int = field(
        default=0, metadata={"help": "Train on only this many of the training words; 0 is all.", "min": 0}
    )

    def __post_init__(self) -> None:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nothing to "
                "train on; allowed is less than 1 together"
            )

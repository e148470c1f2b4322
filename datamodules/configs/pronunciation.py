"""Schema of the pronouncing dictionary; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting


@dataclass(kw_only=True)
class PronunciationConfig:
    """Spelling to phonemes: the CMU Pronouncing Dictionary, or one of your own in its format.

    Parts are of words: all pronunciations of a word are in the same one.
    """

    root: str = setting("data", "Folder that holds downloaded data sets.", resume="free", evaluation="free")
    path: str | None = setting(
        None,
        "A dictionary file of your own, UTF-8, in the format of CMU's: a word and its phonemes a "
        "line; null: CMU's.",
    )
    stress: Literal["keep", "drop"] = setting(
        "keep",
        "Whether vowels carry a stress, AH0, AH1 or AH2, or are AH alike. Where it is kept, "
        "errors are counted with and without it.",
    )
    batch_size: int = setting(256, "Largest training batch per device, in batch_unit.", min=1)
    batch_unit: Literal["words", "tokens"] = setting(
        "words",
        "What batch_size counts: pairs of a word and a pronunciation, or their letters and "
        "phonemes, so that all batches take about equally long.",
    )
    eval_batch_size: int = setting(
        512, "Largest validation or test batch, in words, per device.", min=1, evaluation="free"
    )
    val_fraction: float = setting(
        0.05, "Share of the words for validation.", above=0, below=1, evaluation="same"
    )
    test_fraction: float = setting(
        0.05, "Share of the words for the test.", above=0, below=1, evaluation="same"
    )
    split_seed: int = setting(
        0, "Decides which word is in which part, whatever the run's own seed.", min=0, evaluation="same"
    )
    train_words: int = setting(0, "Train on only this many of the training words; 0 is all.", min=0)

    def __post_init__(self) -> None:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nothing to "
                "train on; allowed is less than 1 together"
            )

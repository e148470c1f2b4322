"""Settings of the pronouncing dictionary; importing this file does not import torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.configs.split import SplitConfig
from datamodules.setting import setting


@dataclass(kw_only=True)
class PronunciationConfig(SplitConfig):
    """Spelling to phonemes: the CMU Pronouncing Dictionary, or a dictionary of your own in its format.

    The data is split by word: all pronunciations of a word are in the same split.
    """

    root: str = setting(
        "data", "Folder for downloaded data sets.", resume="free", evaluation="free", is_path=True
    )
    path: str | None = setting(
        None,
        "Your own dictionary file in CMU's format (UTF-8 or Latin-1), with a word and its phonemes on each "
        "line; null for CMU's.",
        is_path=True,
    )
    stress: Literal["keep", "drop"] = setting(
        "keep",
        "Keep the stress of vowels (AH0, AH1, AH2), or drop it (AH). If kept, errors are counted with and "
        "without stress.",
    )
    batch_size: int = setting(256, "Largest training batch per device, in batch_unit.", min=1, max=1 << 20)
    batch_unit: Literal["words", "tokens"] = setting(
        "words",
        "Unit of batch_size: pairs of a word and a pronunciation, or tokens (letters and phonemes), which "
        "makes all batches about equally large.",
    )
    eval_batch_size: int = setting(
        512, "Largest validation or test batch, in words, per device.", min=1, evaluation="free", max=1 << 20
    )
    val_fraction: float = setting(
        0.05, "Fraction of the words for validation.", above=0, below=1, evaluation="same"
    )
    test_fraction: float = setting(
        0.05, "Fraction of the words for the test.", above=0, below=1, evaluation="same"
    )
    split_seed: int = setting(
        0, "Seed of the split, independent of the run's seed.", min=0, evaluation="same"
    )
    train_words: int = setting(0, "Number of training words to use; 0 means all.", min=0)

"""Settings of the passages of Shakespeare's plays; importing this file does not import torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.configs.split import FoldsConfig
from datamodules.configs.token_corpus import TokenizerConfig
from datamodules.setting import setting


@dataclass(kw_only=True)
class PlayPassagesConfig(FoldsConfig):
    """Passages of Shakespeare's plays with the kind of play as the label, split by play.

    All passages of a play are in the same split. The plays are divided into folds with about the same share
    of each kind. One fold is the test split, some of the other plays are the validation split, the rest is
    for training.
    """

    root: str = setting(
        "data", "Folder for downloaded data sets.", resume="free", evaluation="free", is_path=True
    )
    kinds: Literal["folio", "folders"] = setting(
        "folio",
        "Classes: the three of the First Folio of 1623, or the six folders of the source (comedies, "
        "histories, problems, roman, romances, tragedies).",
    )
    passage_words: int = setting(
        100, "Number of words in a passage; longer passages are easier.", min=1, max=100_000
    )
    names: Literal["masked", "kept"] = setting(
        "masked", "Replace names, which some plays share with a sequel, by the word NAME, or keep them."
    )
    tokenizer: TokenizerConfig = setting(
        help="The tokenizer, trained on the training plays.",
        default_factory=lambda: TokenizerConfig(kind="bpe", vocab_size=4096),
    )
    folds: int = setting(5, "Number of folds.", min=2, evaluation="same", max=1000)
    val_parts: int = setting(
        6, "Number n: one in n of the plays outside the test fold is for validation.", min=2, max=1000
    )
    split_seed: int = setting(
        0, "Seed of the folds, independent of the run's seed.", min=0, evaluation="same"
    )
    batch_size: int = setting(64, "Training passages per step and device.", min=1, max=1 << 20)
    eval_batch_size: int = setting(
        256, "Largest validation or test batch, per device.", min=1, evaluation="free", max=1 << 20
    )

"""Schema of the passages of Shakespeare's plays; importing it imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.configs.token_corpus import TokenizerConfig
from datamodules.setting import setting


@dataclass(kw_only=True)
class PlayPassagesConfig:
    """Passages of Shakespeare's plays and the kind of play each is from, parted by play.

    No play is in two of the parts. The plays are dealt out to folds, each kind as evenly as it goes; one fold
    is the test, some of the other plays are the validation, and the rest is for training.
    """

    root: str = setting("data", "Folder that holds downloaded data sets.", resume="free", evaluation="free")
    kinds: Literal["folio", "folders"] = setting(
        "folio",
        "The three of the First Folio of 1623, or the six folders of the source: comedies, "
        "histories, problems, roman, romances, tragedies.",
    )
    passage_words: int = setting(100, "Words in a passage; longer ones are easier to tell.", min=1)
    names: Literal["masked", "kept"] = setting(
        "masked", "Whether the word NAME stands for names, which some plays share with a sequel."
    )
    tokenizer: TokenizerConfig = setting(
        help="What a token is; learned from the training plays.",
        default_factory=lambda: TokenizerConfig(kind="bpe", vocab_size=4096),
    )
    folds: int = setting(5, "Parts that the plays are dealt out to.", min=2, evaluation="same")
    fold: int = setting(
        0,
        "Which of them is the test; counted on from the first behind the last, so that ${seed} "
        "may be any number.",
        min=0,
        evaluation="same",
    )
    val_parts: int = setting(6, "One in so many of the plays that aren't the test is for validation.", min=2)
    split_seed: int = setting(0, "Decides the folds, whatever the run's own seed.", min=0, evaluation="same")
    batch_size: int = setting(64, "Training passages per step and device.", min=1)
    eval_batch_size: int = setting(
        256, "Largest validation or test batch, per device.", min=1, evaluation="free"
    )

"""Schema of the passages of Shakespeare's plays; importing it imports no torch."""

from dataclasses import dataclass, field
from typing import Literal

from datamodules.token_corpus_config import TokenizerConfig


@dataclass(kw_only=True)
class PlayPassagesConfig:
    """Passages of Shakespeare's plays and the kind of play each is from, parted by play.

    No play is in two of the parts. The plays are dealt out to folds, each kind as evenly as it goes; one fold
    is the test, some of the other plays are the validation, and the rest is for training.
    """

    root: str = field(default="data", metadata={"help": "Folder that holds downloaded data sets."})
    kinds: Literal["folio", "folders"] = field(
        default="folio",
        metadata={
            "help": "The three of the First Folio of 1623, or the six folders of the source: comedies, "
            "histories, problems, roman, romances, tragedies."
        },
    )
    passage_words: int = field(
        default=100, metadata={"help": "Words in a passage; longer ones are easier to tell.", "min": 1}
    )
    names: Literal["masked", "kept"] = field(
        default="masked",
        metadata={"help": "Whether the word NAME stands for names, which some plays share with a sequel."},
    )
    tokenizer: TokenizerConfig = field(
        default_factory=lambda: TokenizerConfig(kind="bpe", vocab_size=4096),
        metadata={"help": "What a token is; learned from the training plays."},
    )
    folds: int = field(default=5, metadata={"help": "Parts that the plays are dealt out to.", "min": 2})
    fold: int = field(
        default=0,
        metadata={
            "help": "Which of them is the test; counted on from the first behind the last, so that ${seed} "
            "may be any number.",
            "min": 0,
        },
    )
    val_parts: int = field(
        default=6,
        metadata={
            "help": "One in so many of the plays that aren't the test is for validation.",
            "min": 2,
        },
    )
    split_seed: int = field(
        default=0, metadata={"help": "Decides the folds, whatever the run's own seed.", "min": 0}
    )
    batch_size: int = field(default=64, metadata={"help": "Training passages per step and device.", "min": 1})
    eval_batch_size: int = field(
        default=256, metadata={"help": "Largest validation or test batch, per device.", "min": 1}
    )

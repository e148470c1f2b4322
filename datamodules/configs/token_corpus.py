"""Schemas of the texts that become tokens; importing them imports no torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.setting import setting


@dataclass(kw_only=True)
class TokenizerConfig:
    """What a token is."""

    kind: Literal["character", "byte", "bpe"] = setting(
        "character",
        "A character of the corpus, a byte, or byte pairs: as GPT-2's, learned from the training part.",
    )
    vocab_size: int = setting(1024, "Tokens that bpe learns, the 256 bytes among them.", min=256, max=1 << 20)
    implementation: Literal["library", "by_hand"] = setting(
        "library", "bpe by the tokenizers library, or by the code here that is there to be read."
    )
    individual_digits: bool = setting(False, "bpe makes each digit a token of its own.")
    path: str | None = setting(
        None, "Folder with vocab.json and merges.txt in GPT-2's format: a bpe that is learned already."
    )

    def __post_init__(self) -> None:
        if self.path is not None and self.kind != "bpe":
            raise ValueError(f"path: a vocabulary is read for kind bpe alone, and this is {self.kind}")


@dataclass(kw_only=True)
class TokenCorpusConfig:
    """What all texts share: windows, batches, parts and tokens.

    The text is parted by characters, in order: training, then validation, then test. So every tokenizer is
    measured on the same characters.
    """

    root: str = setting(
        "data",
        "Folder that holds downloaded data sets and prepared tokens.",
        resume="free",
        evaluation="free",
    )
    context_length: int = setting(256, "Tokens in a window.", min=1)
    batch_size: int = setting(32, "Training windows per step and device.", min=1)
    eval_batch_size: int = setting(
        64, "Largest validation or test batch, per device.", min=1, evaluation="free"
    )
    sampling: Literal["random", "sequential"] = setting(
        "random",
        "Windows from anywhere, or batch_size streams read in order, each batch where the last "
        "one ended (eval_batch_size streams, on all devices together, in evaluation), for a network that "
        "carries its state.",
    )
    steps_per_epoch: int = setting(
        250, "Batches in an epoch of random windows; sequential ones see each token once.", min=1
    )
    val_fraction: float = setting(
        0.05, "Share of the characters for validation.", above=0, below=1, evaluation="same"
    )
    test_fraction: float = setting(
        0.05,
        "Share for the test, at the end; 0 tests on the validation part, as two-part comparisons do.",
        min=0,
        below=1,
        evaluation="same",
    )
    tokenizer: TokenizerConfig = setting(help="What a token is.", default_factory=TokenizerConfig)

    def __post_init__(self) -> None:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nothing to "
                "train on; allowed is less than 1 together"
            )


@dataclass(kw_only=True)
class ShakespeareConfig(TokenCorpusConfig):
    """Shakespeare's plays, all of them, by title."""


@dataclass(kw_only=True)
class TinyShakespeareConfig(TokenCorpusConfig):
    """1,115,394 characters of Shakespeare, the corpus of many a character model.

    Published comparisons use two parts, the first 1,003,854 characters and the last 111,540. So do the
    defaults here: the test part is the validation part, and what is selected on one is selected on the other.
    """

    val_fraction: float = setting(
        0.1, "Share of the characters for validation.", above=0, below=1, evaluation="same"
    )
    test_fraction: float = setting(
        0.0,
        "Share for the test, at the end; 0, as published comparisons have it, tests on the "
        "validation part, so test figures are not those of unseen text.",
        min=0,
        below=1,
        evaluation="same",
    )


@dataclass(kw_only=True)
class TextConfig(TokenCorpusConfig):
    """Any text of your own."""

    path: str = setting(help="A UTF-8 file, or a folder: all its files, in the order of paths.")

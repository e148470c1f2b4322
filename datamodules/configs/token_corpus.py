"""Settings of texts that become tokens; importing this file does not import torch."""

from dataclasses import dataclass
from typing import Literal

from datamodules.configs.split import OwnFilesConfig, SplitConfig
from datamodules.setting import setting

GENRES = ("comedies", "histories", "problems", "roman", "romances", "tragedies")
"""The folders of Shakespeare's plays."""


@dataclass(kw_only=True)
class TokenizerConfig:
    """The tokenizer."""

    kind: Literal["character", "byte", "bpe"] = setting(
        "character",
        "Kind of token: a character, a byte, or byte pairs as in GPT-2, learned from the training split.",
    )
    vocab_size: int = setting(1024, "Number of bpe tokens, 256 bytes included.", min=256, max=1 << 20)
    implementation: Literal["library", "by_hand"] = setting(
        "library", "Implementation of bpe: the fast library tokenizers, or the readable code of this suite."
    )
    individual_digits: bool = setting(False, "Whether bpe makes each digit a token of its own.")
    special_tokens: list[str] = setting(
        [],
        "Strings that bpe always encodes as one token, such as <|endoftext|>; vocab_size includes them.",
    )
    path: str | None = setting(
        None,
        "Folder with vocab.json and merges.txt in GPT-2's format, for a bpe that is already trained.",
        is_path=True,
    )

    def __post_init__(self) -> None:
        if self.path is not None and self.kind != "bpe":
            raise ValueError(f"path: only kind bpe reads a vocabulary, but kind is {self.kind}")
        names = self.special_tokens
        if names and (self.kind != "bpe" or self.path is not None):
            raise ValueError("special_tokens: only a bpe that is learned from the text takes them")
        if len(set(names)) < len(names) or any(len(name) < 2 for name in names):
            raise ValueError("special_tokens: use different names of at least two characters")
        if len(names) + 256 > self.vocab_size:
            raise ValueError(
                f"special_tokens: {len(names)} do not fit into a vocab_size of {self.vocab_size}"
            )


@dataclass(kw_only=True)
class TokenCorpusConfig(SplitConfig):
    """Settings of all texts: windows, batches, splits and tokens.

    The text is split by characters, in order: training, validation, test. Every tokenizer is therefore
    evaluated on the same characters.
    """

    root: str = setting(
        "data",
        "Folder for downloaded data sets and prepared tokens.",
        resume="free",
        evaluation="free",
        is_path=True,
    )
    context_length: int = setting(256, "Number of tokens in a window.", min=1, max=1 << 22)
    train_context_length: int | None = setting(
        None,
        "Number of tokens in a training window; null: context_length. With a smaller number, the "
        "evaluation shows how well a model predicts texts longer than its training windows.",
        min=1,
        max=1 << 22,
    )
    batch_size: int = setting(32, "Training windows per step and device.", min=1, max=1 << 20)
    eval_batch_size: int = setting(
        64, "Largest validation or test batch, per device.", min=1, evaluation="free", max=1 << 20
    )
    sampling: Literal["random", "sequential"] = setting(
        "random",
        "Windows from random places, or batch_size parallel streams in which each batch continues the last "
        "one, for a network that carries its state. Evaluation reads eval_batch_size streams, divided among "
        "all devices.",
    )
    steps_per_epoch: int = setting(
        250,
        "Batches in an epoch of random windows; sequential epochs read each token once.",
        min=1,
        max=10_000_000,
    )
    val_fraction: float = setting(
        0.05, "Fraction of the characters for validation.", above=0, below=1, evaluation="same"
    )
    test_fraction: float = setting(
        0.05,
        "Fraction of the characters for the test, at the end of the text; 0 tests on the validation split.",
        min=0,
        below=1,
        evaluation="same",
    )
    tokenizer: TokenizerConfig = setting(help="The tokenizer.", default_factory=TokenizerConfig)

    @property
    def train_length(self) -> int:
        """Number of tokens in a training window."""
        return self.context_length if self.train_context_length is None else self.train_context_length

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_length > self.context_length:
            raise ValueError(
                f"train_context_length: {self.train_length} exceeds context_length {self.context_length}; "
                "lower it, or raise context_length"
            )


@dataclass(kw_only=True)
class ShakespeareConfig(TokenCorpusConfig):
    """Shakespeare's plays, ordered by title."""

    genres: list[str] = setting(
        list(GENRES), "Genres of the plays to read; the others are left out.", choices=GENRES
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.genres or len(set(self.genres)) < len(self.genres):
            raise ValueError(f"genres: name at least one genre, each once; got {self.genres}")


@dataclass(kw_only=True)
class TinyShakespeareConfig(TokenCorpusConfig):
    """Tiny Shakespeare, 1,115,394 characters, the corpus of many character models.

    Published comparisons use two splits: the first 1,003,854 characters, and the last 111,540. So do the
    defaults here. The test split is then the validation split, so the test figures belong to the data that
    chose the model.
    """

    val_fraction: float = setting(
        0.1, "Fraction of the characters for validation.", above=0, below=1, evaluation="same"
    )
    test_fraction: float = setting(
        0.0,
        "Fraction of the characters for the test, at the end of the text; 0 tests on the validation split, "
        "as published comparisons do.",
        min=0,
        below=1,
        evaluation="same",
    )


@dataclass(kw_only=True)
class TextConfig(TokenCorpusConfig, OwnFilesConfig):
    """A text of your own."""

    path: str = setting(
        help="A UTF-8 file, or a folder: all its files in the order of their paths.", is_path=True
    )

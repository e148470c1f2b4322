"""Texts as windows of tokens: Shakespeare's plays, Tiny Shakespeare, or any text of your own."""

from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from datamodules.assets.fetch import fetch
from datamodules.base import PARTS, DataModule, Part
from datamodules.configs.token_corpus import (
    ShakespeareConfig,
    TextConfig,
    TinyShakespeareConfig,
    TokenCorpusConfig,
)
from datamodules.info import TextInfo
from datamodules.loading.epoch_loader import EpochLoader
from datamodules.loading.token_windows import OrderedWindows, RandomWindows, StreamWindows, as_tensor
from datamodules.text.shakespeare_plays import Plays
from datamodules.text.text_source import TextFiles, TextSource
from datamodules.text.token_preparation import PreparedCorpus, bytes_per_target, prepare_corpus
from datamodules.tokenizers import Tokenizer

_RESIDENT_BYTES = 1 << 30


class TokenCorpusDataModule(DataModule):
    """A text, split into training, validation and test in this order, served as windows of tokens.

    Batches are `(x, y)`, int64 (B, T). `y` holds the token after each token of `x`, or −100 where nothing is
    predicted. With `sampling: random`, training windows start anywhere, and evaluation windows are side by
    side. With `sampling: sequential`, both read parallel streams in order (see
    `datamodules.loading.token_windows`). Evaluation scores every token of the split once, except the first,
    which nothing precedes. Without a test split the validation split is the test split.

    The tokens are mapped from their file. A training device with its own memory holds up to 1 GiB of them.

    A subclass defines `corpus_name` and `source`.
    """

    corpus_name: ClassVar[str]
    """Start of the name of the folder with the tokens."""

    info: TextInfo

    def __init__(self, config: TokenCorpusConfig, *, seed: int = 0) -> None:
        super().__init__(config, seed=seed)
        self._prepared: PreparedCorpus | None = None
        self._tensors: dict[str, Tensor] = {}

    def source(self) -> TextSource:
        """Return the text; download it if necessary."""
        raise NotImplementedError

    def own_splits(self) -> dict[str, TextSource]:
        """Return the texts of `val` and `test` that are not parts of `source`."""
        return {}

    def prepare_data(self) -> None:
        """Prepare the token files; Lightning calls this in one process per machine.

        Raises:
            AssetError: The text can't be downloaded.
            ValueError: The text is empty, too short or not UTF-8, or the prepared files are damaged.
        """
        self._corpus()

    def setup(self, stage: str | None = None) -> None:
        """Map the token files; further calls do nothing.

        Raises:
            AssetError: The text can't be downloaded.
            ValueError: As in `prepare_data`, or a split is shorter than one window, or than one window per
                stream.
        """
        if self._info is not None:
            return
        config, corpus = self.config, self._corpus()
        parts = {name: self.tokens(name) for name in PARTS}
        for name, tokens in parts.items():
            if len(tokens) < config.context_length + 1:
                raise ValueError(
                    f"the {name} split has {len(tokens)} tokens, too few for a window of context_length "
                    f"{config.context_length} and its targets; lower context_length or use a longer text"
                )
        needed = config.batch_size * config.train_length + 1
        if config.sampling == "sequential" and len(parts["train"]) < needed:
            raise ValueError(
                f"the train split has {len(parts['train'])} tokens, but batch_size "
                f"{config.batch_size} streams of context_length {config.train_length} need {needed}; "
                "lower one of the two"
            )
        lengths = dict.fromkeys(PARTS, config.context_length) | {"train": config.train_length}
        windows = {name: -(-(len(tokens) - 1) // lengths[name]) for name, tokens in parts.items()}
        self._info = TextInfo(
            vocab_size=corpus.tokenizer.vocab_size,
            context_length=config.context_length,
            train_context_length=config.train_context_length or 0,
            tokenizer=corpus.tokenizer.to_dict(),
            continuous=config.sampling == "sequential",
            bytes_per_token=bytes_per_target(parts["val"], corpus.tokenizer),
            test_bytes_per_token=bytes_per_target(parts["test"], corpus.tokenizer),
            train_size=windows["train"],
            val_size=windows["val"],
            test_size=windows["test"],
        )

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the text, available after `prepare_data`."""
        return self._corpus().tokenizer

    def tokens(self, name: str) -> Any:
        """Return the ids of a split, a mapped array of uint16 or uint32 (N,)."""
        parts = self._corpus().parts
        return parts.get(name, parts["val"])

    def loader(self, part: Part) -> EpochLoader:
        """Return random windows or streams for training; for evaluation, every token of the split once."""
        config, ranks = self.config, {"rank": self.rank, "world_size": self.world_size}
        tokens, length = self._resident(part), config.context_length
        if part == "train":
            options = {"context_length": config.train_length, "max_batches": self.max_batches(part), **ranks}
            if config.sampling == "sequential":
                return StreamWindows(tokens, streams=config.batch_size * ranks["world_size"], **options)
            return RandomWindows(
                tokens, batch_size=config.batch_size, steps=config.steps_per_epoch, seed=self.seed, **options
            )
        if config.sampling == "random":
            return OrderedWindows(tokens, context_length=length, batch_size=config.eval_batch_size, **ranks)
        windows = (len(tokens) - 1) // length
        streams = max(min(config.eval_batch_size, windows), ranks["world_size"])
        return StreamWindows(tokens, context_length=length, streams=streams, **ranks)

    def _corpus(self) -> PreparedCorpus:
        if self._prepared is None:
            self._prepared = prepare_corpus(
                self.source(),
                self.config,
                name=self.corpus_name,
                tokenizer=self.given_tokenizer,
                own=self.own_splits(),
            )
        return self._prepared

    def _resident(self, name: str) -> Tensor:
        """Return a split on the device that serves it; keep it there for the next call."""
        device = self.device
        tokens = self._tensors.get(name)
        if tokens is None or tokens.device != device:
            tokens = as_tensor(self.tokens(name))
            if tokens.nbytes <= _RESIDENT_BYTES:
                tokens = tokens.to(device)
            self._tensors[name] = tokens
        return tokens


class ShakespeareDataModule(TokenCorpusDataModule):
    """Shakespeare's plays in the order of their titles; all 38 have five million characters."""

    corpus_name = "shakespeare"
    config: ShakespeareConfig

    def source(self) -> TextSource:
        """Return the plays; download them if necessary."""
        return Plays(fetch("shakespeare", self.config.root), tuple(self.config.genres))


class TinyShakespeareDataModule(TokenCorpusDataModule):
    """Tiny Shakespeare: scenes of his plays, 1,115,394 characters, 65 distinct ones (Karpathy, 2015)."""

    corpus_name = "tiny_shakespeare"
    config: TinyShakespeareConfig

    def source(self) -> TextSource:
        """Return the text; download it if necessary."""
        return TextFiles((fetch("tiny_shakespeare", self.config.root) / "tiny_shakespeare.txt",))


class TextDataModule(TokenCorpusDataModule):
    """A text of your own: a UTF-8 file, or all files of a folder."""

    corpus_name = "text"
    config: TextConfig

    def source(self) -> TextSource:
        """Return the text of the files."""
        return TextFiles.under(Path(self.config.path))

    def own_splits(self) -> dict[str, TextSource]:
        """Return the texts of the validation and test files."""
        return {name: TextFiles.under(Path(path)) for name, path in self.config.own_paths.items()}

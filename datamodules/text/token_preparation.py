"""A text made into token files, once: parted, its tokenizer trained, both kept under the data root."""

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from datamodules.configs.token_corpus import TokenCorpusConfig, TokenizerConfig
from datamodules.text.text_source import TextSource, TextSummary, cut, summarize
from datamodules.text.token_file import read_token_file, write_token_file
from datamodules.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    read_gpt2_files,
    tokenizer_from_dict,
    train_by_library,
    train_byte_pairs,
)

_LAYOUT = 1
"""Counts up whenever the same config and text would be prepared differently."""
_BLOCK = 1 << 22


@dataclass(frozen=True, kw_only=True)
class PreparedCorpus:
    """A text as tokens.

    Attributes:
        tokenizer: What made them.
        parts: The ids of `train`, `val` and, where the text has three parts, `test`; mapped files.
    """

    tokenizer: Tokenizer
    parts: dict[str, "np.ndarray[Any, Any]"]


def prepare_corpus(source: TextSource, config: TokenCorpusConfig, *, name: str) -> PreparedCorpus:
    """Make the token files of a text, or find those that were made before.

    What was prepared is found by the text's sha256, the parts and the tokenizer's settings. Two processes
    that ask at once prepare once; a folder appears only when it is whole, and is never written again.

    Args:
        source: The text.
        config: Parts and tokenizer.
        name: What the folder's name starts with.

    Raises:
        ValueError: The text is empty, too short to be parted or not UTF-8, or what was prepared is damaged
            or can't be written.
    """
    summary = summarize(source)
    parts = part_bounds(summary.characters, config)
    identity = [_LAYOUT, summary.sha256, _settings(config.tokenizer), parts]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    folder = Path(config.root) / "tokens" / f"{name}-{key}"
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f".{folder.name}.lock"):
                if not folder.is_dir():
                    _prepare(source, summary, parts, config.tokenizer, folder)
        except OSError as error:
            raise ValueError(f"can't prepare tokens in {folder.resolve()}: {error}") from error
    try:
        return _open(folder, summary, parts)
    except (OSError, ValueError) as error:
        raise ValueError(f"{error}; remove the folder {folder} to have it prepared again") from error


def part_bounds(characters: int, config: TokenCorpusConfig) -> dict[str, tuple[int, int]]:
    """Where the parts of a text start and stop, in characters.

    Raises:
        ValueError: A part would be empty.
    """
    if not characters:
        raise ValueError("the corpus is empty")
    train = int(characters * (1 - config.val_fraction - config.test_fraction))
    val = int(characters * (1 - config.test_fraction))
    bounds = {"train": (0, train), "val": (train, val)}
    if config.test_fraction:
        bounds["test"] = (val, characters)
    for part, (start, stop) in bounds.items():
        if start == stop:
            raise ValueError(f"the corpus has {characters} characters, which leaves none for the {part} part")
    return bounds


def make_tokenizer(config: TokenizerConfig, source: TextSource, training: tuple[int, int]) -> Tokenizer:
    """The tokenizer that a config describes.

    Characters are those of the whole text, since one that training lacks couldn't be read at all; what is
    *learned* is learned from the training part.

    Args:
        config: What a token is.
        source: The text.
        training: Where its training part starts and stops, in characters.

    Raises:
        ValueError: The files of a vocabulary are not what they should be.
    """
    match config.kind:
        case "character":
            return CharacterTokenizer.of(source.chunks())
        case "byte":
            return ByteTokenizer()
    if config.path is not None:
        return _read_vocabulary(config)
    train = train_by_library if config.implementation == "library" else train_byte_pairs
    return train(
        cut(source.chunks(), *training), config.vocab_size, individual_digits=config.individual_digits
    )


def bytes_per_target(tokens: "np.ndarray[Any, Any]", tokenizer: Tokenizer) -> float:
    """UTF-8 bytes that a token stands for, on average over all that are predicted: not the first."""
    lengths = np.array([len(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size)])
    lengths[list(tokenizer.special_tokens.values())] = 0
    blocks = (tokens[start : start + _BLOCK] for start in range(1, len(tokens), _BLOCK))
    return float(sum(int(lengths[block].sum()) for block in blocks)) / max(1, len(tokens) - 1)


def _read_vocabulary(config: TokenizerConfig) -> Tokenizer:
    assert config.path is not None
    return read_gpt2_files(
        Path(config.path), implementation=config.implementation, individual_digits=config.individual_digits
    )


def _settings(config: TokenizerConfig) -> dict[str, Any]:
    """All that a tokenizer depends on, the text aside."""
    if config.kind != "bpe":
        return {"kind": config.kind}
    return asdict(config) if config.path is None else _read_vocabulary(config).to_dict()


def _prepare(
    source: TextSource,
    summary: TextSummary,
    parts: dict[str, tuple[int, int]],
    config: TokenizerConfig,
    folder: Path,
) -> None:
    """Write everything beside its place, then move it there; the caller holds the lock."""
    for stale in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed
        shutil.rmtree(stale, ignore_errors=True)
    tokenizer = make_tokenizer(config, source, parts["train"])
    plain = json.dumps(tokenizer.to_dict(), ensure_ascii=True)
    scratch = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    scratch.mkdir()
    try:
        (scratch / "tokenizer.json").write_text(plain, encoding="utf-8")
        for part, (start, stop) in parts.items():
            write_token_file(
                scratch / f"{part}.tokens",
                tokenizer.encode_chunks(cut(source.chunks(), start, stop)),
                vocab_size=tokenizer.vocab_size,
                source_sha256=summary.sha256,
                tokenizer_sha256=hashlib.sha256(plain.encode()).hexdigest(),
            )
        os.replace(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _open(folder: Path, summary: TextSummary, parts: dict[str, tuple[int, int]]) -> PreparedCorpus:
    plain = (folder / "tokenizer.json").read_bytes()
    try:
        tokenizer = tokenizer_from_dict(json.loads(plain))
    except ValueError as error:
        raise ValueError(f"{folder / 'tokenizer.json'} is damaged: {error}") from error
    expected: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size,
        "source_sha256": summary.sha256,
        "tokenizer_sha256": hashlib.sha256(plain).hexdigest(),
    }
    files = {part: read_token_file(folder / f"{part}.tokens", **expected).tokens for part in parts}
    return PreparedCorpus(tokenizer=tokenizer, parts=files)

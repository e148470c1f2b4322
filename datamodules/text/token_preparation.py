"""Prepare a text once: split it, train its tokenizer, and save the token ids under the data root."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from datamodules.configs.token_corpus import TokenCorpusConfig, TokenizerConfig
from datamodules.failures import writing
from datamodules.text.text_source import JoinedTexts, RotatedText, TextSource, TextSummary, cut, summarize
from datamodules.text.token_file import TokenOrigin, read_token_file, write_token_file
from datamodules.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    read_gpt2_files,
    tokenizer_from_dict,
    train_by_library,
    train_byte_pairs,
)

_LAYOUT = 2
"""Version of the prepared files. It is part of the folder's key, so files of an older version stay unused."""
_BLOCK = 1 << 22


@dataclass(frozen=True, kw_only=True)
class PreparedCorpus:
    """A text as token ids.

    Attributes:
        tokenizer: The tokenizer that produced the ids.
        parts: The ids of `train`, `val` and, if the text has a test split, `test`, mapped from their files.
    """

    tokenizer: Tokenizer
    parts: dict[str, "np.ndarray[Any, Any]"]


def prepare_corpus(
    source: TextSource,
    config: TokenCorpusConfig,
    *,
    name: str,
    tokenizer: Tokenizer | None = None,
    own: Mapping[str, TextSource] | None = None,
) -> PreparedCorpus:
    """Prepare the token files of a text, or open the files of an earlier call.

    The folder `ROOT/tokens/NAME-KEY` holds the files. The key is a hash of the text, the splits and the
    tokenizer's settings. If two processes call at once, one prepares and the other waits. The files are
    written to a temporary folder, which is renamed when complete. A prepared folder never changes.

    Args:
        source: The text to split.
        config: Splits and tokenizer.
        name: Start of the folder's name.
        tokenizer: Replaces the tokenizer that the config describes.
        own: Separate texts of the splits `val` and `test`; a split without one is a part of `source`.

    Raises:
        ValueError: The text is empty, too short to split or not UTF-8, or the prepared files are damaged.
        RunError: The files can't be written.
    """
    own = own or {}
    if config.folds is not None:
        source, config = _fold_last(source, config)
    lengths = {part: summarize(text).characters for part, text in own.items()}
    if own:
        source = JoinedTexts((source, *own.values()))
    summary = summarize(source)
    parts = part_bounds(summary.characters, config, own=lengths)
    settings = _settings(config.tokenizer) if tokenizer is None else tokenizer.to_dict()
    identity = [_LAYOUT, summary.sha256, settings, parts]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    folder = Path(config.root) / "tokens" / f"{name}-{key}"
    if not folder.is_dir():
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f".{folder.name}.lock"):
                if not folder.is_dir():
                    tokenizer = tokenizer or make_tokenizer(config.tokenizer, source, parts["train"])
                    special = bool(config.tokenizer.special_tokens)
                    _prepare(source, summary, parts, tokenizer, folder, special)
    try:
        return _open(folder, summary, parts)
    except (OSError, ValueError) as error:
        raise ValueError(f"{error}; remove the folder {folder} to prepare it again") from error


def _fold_last(source: TextSource, config: TokenCorpusConfig) -> tuple[TextSource, TokenCorpusConfig]:
    """Move the chosen fold to the end of the text, because the test split is there."""
    assert config.folds is not None
    characters = summarize(source).characters
    end = characters * (config.fold % config.folds + 1) // config.folds
    whole = RotatedText(source, start=end, length=characters)
    return whole, replace(config, test_fraction=1 / config.folds, folds=None)


def part_bounds(
    characters: int, config: TokenCorpusConfig, *, own: Mapping[str, int] | None = None
) -> dict[str, tuple[int, int]]:
    """Return the range of characters of each split, as (start, stop).

    Args:
        characters: Length of the text.
        config: The shares of the splits.
        own: Lengths of the separate texts of splits, which follow the text to split in this order.

    Raises:
        ValueError: A split would be empty.
    """
    if not characters:
        raise ValueError("the corpus is empty")
    own = own or {}
    whole = characters - sum(own.values())
    val_fraction = 0.0 if "val" in own else config.val_fraction
    test_fraction = 0.0 if "test" in own else config.test_fraction
    train, val = int(whole * (1 - val_fraction - test_fraction)), int(whole * (1 - test_fraction))
    bounds = {"train": (0, train), "val": (train, val)}
    if test_fraction:
        bounds["test"] = (val, whole)
    for part, length in own.items():
        bounds[part] = (whole, whole + length)
        whole += length
    for part, (start, stop) in bounds.items():
        if start == stop:
            raise ValueError(f"the corpus has only {characters} characters: the {part} split is empty")
    return bounds


def make_tokenizer(config: TokenizerConfig, source: TextSource, training: tuple[int, int]) -> Tokenizer:
    """Build the tokenizer that a config describes.

    The alphabet of a character tokenizer comes from the whole text: a character that occurs only in the
    validation split would otherwise have no token. Byte pairs are learned from the training split alone.

    `training` is the range of characters of the training split, as (start, stop).

    Raises:
        ValueError: The vocabulary's files are missing or invalid.
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
        cut(source.chunks(), *training),
        config.vocab_size,
        individual_digits=config.individual_digits,
        special_tokens=config.special_tokens,
    )


def bytes_per_target(tokens: "np.ndarray[Any, Any]", tokenizer: Tokenizer) -> float:
    """Return the mean number of UTF-8 bytes per predicted token, which is every token but the first."""
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
    """Return everything that a tokenizer depends on, except the text."""
    if config.kind != "bpe":
        return {"kind": config.kind}
    if config.path is not None:
        return _read_vocabulary(config).to_dict()
    settings = asdict(config)
    if not config.special_tokens:  # older folders of tokens have no such setting
        del settings["special_tokens"]
    return settings


def _prepare(
    source: TextSource,
    summary: TextSummary,
    parts: dict[str, tuple[int, int]],
    tokenizer: Tokenizer,
    folder: Path,
    allow_special: bool,
) -> None:
    """Write all files to a temporary folder, then rename it; the caller holds the lock."""
    for stale in folder.parent.glob(f".{folder.name}-*"):  # left by a process that was killed
        shutil.rmtree(stale, ignore_errors=True)
    plain = json.dumps(tokenizer.to_dict(), ensure_ascii=True)
    scratch = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    scratch.mkdir()
    try:
        with writing(folder / "tokenizer.json"):
            (scratch / "tokenizer.json").write_text(plain, encoding="utf-8")
        origin = _origin(tokenizer, plain.encode(), summary)
        for part, (start, stop) in parts.items():
            chunks = cut(source.chunks(), start, stop)
            ids = tokenizer.encode_chunks(chunks, allow_special=allow_special)
            with writing(folder / f"{part}.npy"):
                write_token_file(scratch / f"{part}.npy", ids, origin)
        os.replace(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _open(folder: Path, summary: TextSummary, parts: dict[str, tuple[int, int]]) -> PreparedCorpus:
    plain = (folder / "tokenizer.json").read_bytes()
    try:
        tokenizer = tokenizer_from_dict(json.loads(plain))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{folder / 'tokenizer.json'} is damaged: {error}") from error
    origin = _origin(tokenizer, plain, summary)
    files = {part: read_token_file(folder / f"{part}.npy", origin) for part in parts}
    return PreparedCorpus(tokenizer=tokenizer, parts=files)


def _origin(tokenizer: Tokenizer, plain: bytes, summary: TextSummary) -> TokenOrigin:
    return TokenOrigin(
        vocab_size=tokenizer.vocab_size,
        source_sha256=summary.sha256,
        tokenizer_sha256=hashlib.sha256(plain).hexdigest(),
    )

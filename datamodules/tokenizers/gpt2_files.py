"""Read a vocabulary in GPT-2's format: `vocab.json` and `merges.txt`."""

import json
from pathlib import Path

from datamodules.assets.ordinary_files import check_ordinary
from datamodules.tokenizers.byte_pair import BytePairTokenizer
from datamodules.tokenizers.library import LibraryBytePairTokenizer


def read_gpt2_files(
    folder: Path, *, implementation: str = "library", individual_digits: bool = False
) -> BytePairTokenizer:
    """Read the tokenizer of a folder with `vocab.json` and `merges.txt`.

    A token of several characters that no merge produces, such as `<|endoftext|>`, becomes a special token.

    Args:
        folder: Folder of both files.
        implementation: `"library"` or `"by_hand"`.
        individual_digits: Whether each digit is a piece of its own; the files do not say.

    Raises:
        ValueError: A file is missing or malformed; the message names it.
    """
    tokens = _read_vocabulary(folder / "vocab.json")
    merges = _read_merges(folder / "merges.txt")
    made = {merge.replace(" ", "") for merge in merges}
    special = [token for token in tokens if len(token) > 1 and token not in made]
    kind = LibraryBytePairTokenizer if implementation == "library" else BytePairTokenizer
    try:
        return kind(tokens, merges, special_tokens=special, individual_digits=individual_digits)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _read_vocabulary(path: Path) -> list[str]:
    """Read the tokens in the order of their ids."""
    try:
        ids = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(ids, dict) or not all(type(id) is int for id in ids.values()):
        raise ValueError(f"{path} must map tokens to whole numbers")
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"{path} must give its {len(ids)} tokens the ids 0 … {len(ids) - 1}, each once")
    return sorted(ids, key=ids.__getitem__)


def _read_merges(path: Path) -> list[str]:
    """Read the merges; skip the line with the version."""
    lines = _text(path).split("\n")
    if lines[0].startswith("#version"):
        lines = lines[1:]
    merges = [line.rstrip("\r") for line in lines if line.strip()]
    for merge in merges:
        if len(merge.split(" ")) != 2:
            raise ValueError(f"{path}: a merge must be two tokens with a space between them, not {merge!r}")
    return merges


def _text(path: Path) -> str:
    check_ordinary(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error

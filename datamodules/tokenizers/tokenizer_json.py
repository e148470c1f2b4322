"""Read byte-level vocabularies from Hugging Face's `tokenizer.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.assets.ordinary_files import check_ordinary
from datamodules.tokenizers.library import LibraryBytePairTokenizer

_NOTHING: tuple[Any, ...] = (None, False, "", [], {})
_PLAIN_MODEL = (
    "dropout",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
)
"""Settings of a BPE model that must be off."""
_ADDED = ("single_word", "lstrip", "rstrip")
"""Settings of an added token that must be off."""


def read_tokenizer_json(path: Path) -> LibraryBytePairTokenizer:
    """Read a `tokenizer.json` with byte-level BPE like GPT-2's.

    Raises:
        ValueError: The file can't be read, is malformed, or has a setting that is not implemented. The
            message names the setting and its value.
    """
    check_ordinary(path)
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    try:
        return _build(values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error) if type(error) is ValueError else f"malformed: {type(error).__name__} {error}"
        raise ValueError(f"{path}: {reason}") from error


def _build(values: Mapping[str, Any]) -> LibraryBytePairTokenizer:
    model = values["model"]
    if model.get("type", "BPE") != "BPE":  # GPT-2's own file is older than this entry
        raise ValueError(f"model.type = {model['type']!r} isn't implemented, only 'BPE'")
    for key in _PLAIN_MODEL:
        _require_off(model, key, "model")
    _require_off(values, "normalizer", "")
    _check_post_processor(values.get("post_processor"))
    digits = _individual_digits(values["pre_tokenizer"])

    ids = dict(model["vocab"])
    special = []
    for added in values.get("added_tokens") or []:
        for key in _ADDED:
            _require_off(added, key, f"added token {added['content']!r}")
        if ids.setdefault(added["content"], added["id"]) != added["id"]:
            raise ValueError(f"the added token {added['content']!r} has another id in the vocabulary")
        special.append(added["content"])
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"the {len(ids)} tokens must have the ids 0 … {len(ids) - 1}, each once")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return LibraryBytePairTokenizer(
        sorted(ids, key=ids.__getitem__), merges, special_tokens=special, individual_digits=digits
    )


def _check_post_processor(post: Mapping[str, Any] | None) -> None:
    """Refuse a post-processor that adds tokens to a text."""
    if post is None or post["type"] == "ByteLevel":
        return
    if post["type"] != "TemplateProcessing":
        raise ValueError(
            f"post_processor {post['type']!r} isn't implemented, only 'ByteLevel' and 'TemplateProcessing'"
        )
    if [list(piece) for piece in post["single"]] != [["Sequence"]]:
        raise ValueError("post_processor 'TemplateProcessing' is implemented only if it adds no tokens")


def _individual_digits(pre_tokenizer: Mapping[str, Any]) -> bool:
    """Tell whether each digit becomes a piece before GPT-2's pattern is applied."""
    steps = list(pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer])
    by_digit = bool(steps) and steps[0]["type"] == "Digits"
    if by_digit and steps.pop(0)["individual_digits"] is not True:
        raise ValueError("pre_tokenizer 'Digits' is implemented with individual_digits true only")
    if [step["type"] for step in steps] != ["ByteLevel"]:
        names = [step["type"] for step in steps]
        raise ValueError(f"pre_tokenizer {names} isn't implemented, only 'ByteLevel' and 'Digits' before it")
    if steps[0].get("add_prefix_space", True) or not steps[0].get("use_regex", True):
        raise ValueError("pre_tokenizer 'ByteLevel' is implemented without add_prefix_space, with use_regex")
    return by_digit


def _require_off(values: Mapping[str, Any], key: str, where: str) -> None:
    if values.get(key) not in _NOTHING:
        name = f"{where}.{key}" if where else key
        raise ValueError(f"{name} = {values[key]!r} isn't implemented")

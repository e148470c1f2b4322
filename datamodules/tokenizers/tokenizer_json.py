"""Read vocabularies of byte pairs from Hugging Face's `tokenizer.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.assets.ordinary_files import check_ordinary
from datamodules.tokenizers.byte_fallback import ByteFallbackTokenizer
from datamodules.tokenizers.library import LibraryBytePairTokenizer
from datamodules.tokenizers.published import PublishedTokenizer, names_by_id, pre_tokenizer_steps
from datamodules.tokenizers.tokenizer import Tokenizer

_NOTHING: tuple[Any, ...] = (None, False, "", [], {})
_PLAIN_MODEL = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
"""Settings of a BPE model that must be off."""


def read_tokenizer_json(path: Path) -> Tokenizer:
    """Read a `tokenizer.json` with byte-level BPE (GPT-2, Llama 3, Qwen) or byte fallback (Llama 2, Mistral).

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


def _build(values: Mapping[str, Any]) -> Tokenizer:
    model = values["model"]
    if model.get("type", "BPE") != "BPE":  # GPT-2's own file is older than this entry
        raise ValueError(f"model.type = {model['type']!r} isn't implemented, only 'BPE'")
    for key in _PLAIN_MODEL:
        if model.get(key) not in _NOTHING:
            raise ValueError(f"model.{key} = {model[key]!r} isn't implemented")
    added = values.get("added_tokens") or []
    for token in added:
        if token.get("single_word"):
            raise ValueError(f"added token {token['content']!r}.single_word = True isn't implemented")
    start = _start(values.get("post_processor"))
    parts = {"model": {"type": "BPE", **model}, "pre_tokenizer": values["pre_tokenizer"]}
    parts |= {"normalizer": values.get("normalizer"), "added_tokens": added, "start": start}
    if model.get("byte_fallback"):
        return _tried(ByteFallbackTokenizer(parts))
    steps = pre_tokenizer_steps(values["pre_tokenizer"])
    like_gpt2 = (
        not start
        and not model.get("ignore_merges")
        and not values.get("normalizer")
        and not any(token.get("lstrip") or token.get("rstrip") for token in added)
        and not steps[-1].get("add_prefix_space", True)
        and steps[-1].get("use_regex", True)
        and [step.get("individual_digits") for step in steps[:-1]] in ([], [True])
    )
    if not like_gpt2:
        return _tried(PublishedTokenizer(parts))
    return LibraryBytePairTokenizer(
        names_by_id(model["vocab"], added),
        [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        special_tokens=[token["content"] for token in added],
        individual_digits=len(steps) > 1,
    )


def _tried(tokenizer: PublishedTokenizer) -> PublishedTokenizer:
    """Let the library check the model now and not at the first text.

    Raises:
        ValueError: The library refuses the model.
    """
    tokenizer.encode("a")
    return tokenizer


def _start(post: Mapping[str, Any] | None) -> list[str]:
    """Return the names of the tokens that a post-processor puts before a text.

    Raises:
        ValueError: It puts tokens after a text, or is not supported.
    """
    if post is None:
        return []
    steps = post["processors"] if post["type"] == "Sequence" else [post]
    start: list[str] = []
    for step in steps:
        if step["type"] == "TemplateProcessing":
            *before, last = step["single"]
            if list(last) != ["Sequence"] or any(list(piece) != ["SpecialToken"] for piece in before):
                raise ValueError(
                    "post_processor 'TemplateProcessing' with tokens after a text isn't implemented"
                )
            start = [piece["SpecialToken"]["id"] for piece in before]
        elif step["type"] != "ByteLevel":
            raise ValueError(
                f"post_processor {step['type']!r} isn't implemented, "
                "only 'ByteLevel' and 'TemplateProcessing'"
            )
    return start

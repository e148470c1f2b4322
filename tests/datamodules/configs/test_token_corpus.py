"""Checks of the text settings."""

from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from datamodules.configs.token_corpus import (
    ShakespeareConfig,
    TextConfig,
    TinyShakespeareConfig,
    TokenCorpusConfig,
    TokenizerConfig,
)


@pytest.mark.parametrize(
    ("schema", "values", "message"),
    [
        (TokenCorpusConfig, {"val_fraction": 0.5, "test_fraction": 0.5}, "their sum must be below 1"),
        (
            TinyShakespeareConfig,
            {"val_fraction": 0.3, "test_fraction": 0.9},
            "test_fraction 0.9 leave no training data",
        ),
        (TokenizerConfig, {"path": "gpt2"}, "only kind bpe reads a vocabulary, but kind is character"),
        (TokenizerConfig, {"special_tokens": ["<a>"]}, "only a bpe that is learned from the text takes them"),
        (
            TokenizerConfig,
            {"kind": "bpe", "special_tokens": ["<a>", "<a>"]},
            "use different names of at least two",
        ),
        (
            TokenizerConfig,
            {"kind": "bpe", "special_tokens": ["<a>"], "vocab_size": 256},
            "1 do not fit into a vocab_size of 256",
        ),
        (ShakespeareConfig, {"genres": []}, "name at least one genre"),
    ],
)
def test_conflicting_settings_are_refused(schema: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schema(**values)


@pytest.mark.parametrize(
    "config",
    [
        ShakespeareConfig(),
        TinyShakespeareConfig(),
        TextConfig(path="x"),
        TokenizerConfig(kind="bpe", path="x"),
    ],
)
def test_every_field_has_help_and_a_default_in_its_range(config: Any) -> None:
    for field in fields(config):
        assert field.metadata["help"].endswith(".")
        value = getattr(config, field.name)
        if isinstance(value, (int, float)) and not is_dataclass(value):
            assert value >= field.metadata.get("min", value)


def test_a_text_of_ones_own_needs_a_path() -> None:
    with pytest.raises(TypeError, match="path"):
        TextConfig()  # type: ignore[call-arg]

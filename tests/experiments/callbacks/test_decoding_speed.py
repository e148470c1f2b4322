"""The cache has the size of the formula, the speed is tokens by seconds, and both are final metrics."""

import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.callbacks import decoding_speed as measured
from experiments.callbacks.decoding_speed import cache_bytes_per_token, decoding_speed
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.networks.transformer_lm import TransformerLM


def network(**sizes: int) -> DecodingLM:
    config = LanguageModelConfig(depth=3, width=32, num_heads=4, position="rotary", **sizes)
    return DecodingLM(TransformerLM(config, vocab_size=7, context_length=10))


@pytest.mark.parametrize("heads", [4, 2, 1])
def test_a_token_takes_a_key_and_a_value_of_each_head_and_layer(heads: int) -> None:
    assert cache_bytes_per_token(network(num_kv_heads=heads)) == 3 * 2 * heads * 8 * 4


@pytest.mark.parametrize("new_tokens", [2, 5, 20])  # also beyond the context
def test_the_speed_is_that_of_all_rows_after_the_first_token(
    monkeypatch: pytest.MonkeyPatch, new_tokens: int
) -> None:
    seconds = count(start=3.0, step=0.5)
    monkeypatch.setattr(time, "perf_counter", lambda: next(seconds))  # half a second for each step
    assert decoding_speed(network(), [[1, 2], [3, 4], [5, 6]], new_tokens) == 3 / 0.5


@pytest.mark.slow
def test_a_fit_measures_after_its_test(
    language_settings: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "REPEATS", 1)
    plain = experiments.run(language_settings, f"run_dir={work / 'plain'}")
    result = experiments.run(language_settings, f"run_dir={work / 'run'}", "trainer.measure=[decoding]")
    assert result.metrics["test/loss"] == plain.metrics["test/loss"]
    assert result.metrics["test/cache_bytes_per_token"] == 2 * 2 * 2 * 8 * 4
    assert result.metrics["test/decode_tokens_per_second"] > 0

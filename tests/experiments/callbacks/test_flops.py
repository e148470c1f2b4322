import itertools
import time

import pytest
import torch

from datamodules.info import TextInfo
from experiments.callbacks import flops
from experiments.callbacks.flops import measured_peak, number_format, training_flops
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.language_model import LanguageModel


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("64-true", torch.float64),
        ("bf16-mixed", torch.bfloat16),
        ("bf16-true", torch.bfloat16),
        ("16-mixed", torch.float16),
    ],
)
def test_matrices_are_multiplied_in_the_runs_precision(precision: str, dtype: torch.dtype) -> None:
    assert number_format(precision) == dtype


def test_training_takes_three_products_for_each_of_the_forward_pass() -> None:
    """Counted by hand: 2 operations a weight and token, and attention's two products of T × T."""
    info = TextInfo(vocab_size=11, context_length=8, bytes_per_token=1.0, test_bytes_per_token=1.0)
    config = LanguageModelConfig(depth=3, width=16, num_heads=2, tie_embeddings=False)
    matrices = 3 * (4 * 16 * 16 + 2 * 16 * 64) + 16 * 11
    attention = 3 * 2 * (2 * 8 * 8 * 16)
    assert training_flops(LanguageModel(config, info)) == 3 * (2 * matrices * 8 + attention)


def test_without_an_example_nothing_is_counted() -> None:
    module = LanguageModel.__new__(LanguageModel)
    torch.nn.Module.__init__(module)
    object.__setattr__(module, "_example_input_array", None)
    assert training_flops(module) == 0


def test_the_peak_is_that_of_the_fastest_large_product(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.chain([9.0, 0.5, 0.25], itertools.repeat(0.4))  # the first one warms up
    monkeypatch.setattr(flops, "_multiply", lambda a: time.sleep(0.01) or next(seconds))
    assert measured_peak(torch.device("cpu"), torch.float32) == 2 * 1024**3 / 0.25


def test_a_product_slower_than_all_the_time_there_is_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "_SECONDS", 0.0)
    monkeypatch.setattr(flops, "_multiply", lambda a: 4.0)
    assert measured_peak(torch.device("cpu"), torch.float32) == 2 * 1024**3 / 4


def test_a_real_product_takes_its_time() -> None:
    assert 1e8 < measured_peak(torch.device("cpu"), torch.float32) < 1e15

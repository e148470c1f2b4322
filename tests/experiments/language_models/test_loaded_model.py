"""The number format that `auto` stands for, by the device and not by a measurement."""

from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from experiments.language_models import loaded_model
from experiments.language_models.opening import open_language_model
from lit_modules.functional import precision


@pytest.mark.parametrize(
    ("device", "multiplies", "expected"),
    [
        ("cpu", True, ("int8", "bf16")),
        ("cpu", False, ("fp32", "fp32")),
        ("cuda", True, ("bf16", "bf16")),
        ("cuda", False, ("fp32", "fp32")),
    ],
)
def test_the_format_follows_the_device(
    device: str, multiplies: bool, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded_model, "default_device", lambda: torch.device(device))
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: multiplies)
    assert (loaded_model.fast_precision(int8=True), loaded_model.fast_precision(int8=False)) == expected


def test_only_a_laid_out_transformer_is_quantised(
    language_run: Path, language_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded_model, "default_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: True)
    assert open_language_model(str(language_run), "auto").precision == "int8"
    assert open_language_model(str(language_run), "auto", laid_out=False).precision == "bf16"
    recurrent = {**language_settings, "model": {"name": "char_rnn", "hidden": 8}}
    run = experiments.run(recurrent, "trainer.max_epochs=1", f"run_dir={tmp_path / 'rnn'}")
    opened = open_language_model(str(run.run_dir), "auto")
    assert opened.precision == "bf16"
    assert next(opened.network.parameters()).dtype == torch.bfloat16

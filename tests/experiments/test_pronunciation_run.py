"""Runs on a pronouncing dictionary: stopped and continued, of another size, and on mistakes in the file."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from datamodules.loading.length_buckets import LengthBuckets
from experiments.errors import Interrupted, UserError

EPOCHS = 2


@pytest.fixture
def settings(work: Path) -> dict[str, Any]:
    """Sixty words of b and a, of which fifty are to train on."""
    words = [f"{number:07b}".replace("0", "a").replace("1", "b")[: 3 + number % 5] for number in range(130)]
    sounds = {"a": "AA1", "b": "B"}
    lines = [f"{word} {' '.join(sounds[letter] for letter in word)}" for word in dict.fromkeys(words)][:60]
    (work / "my.dict").write_text("\n".join([*lines, f"{lines[0].split()[0]}(2) AA0"]))
    return {
        "name": "tiny_g2p",
        "model": {"name": "seq2seq", "depth": 1, "width": 16, "num_heads": 2, "dropout": 0.1},
        "data": {"name": "pronunciation", "path": "my.dict", "batch_size": 8, "val_fraction": 0.1},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "schedule": {"name": "warmup_cosine"},
        "trainer": {
            "max_epochs": EPOCHS,
            "accelerator": "cpu",
            "precision": "32-true",
            "log_every_n_steps": 2,
            "dashboard": False,
            "progress_bar": False,
            "monitor": "val/word_error_rate_without_stress",
        },
    }


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["words", "tokens"])
def test_a_run_continues_exactly_from_any_step(
    settings: dict[str, Any], unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the first step, within an epoch, in an epoch's last step and in the very last."""
    if unit == "tokens":
        settings["data"] |= {"batch_unit": "tokens", "batch_size": 8 * 13}
    full = experiments.run(settings, "run_dir=full")
    steps = int(full.metrics["steps"])
    per_epoch, serve = steps // EPOCHS, LengthBuckets._serve
    assert per_epoch >= 6

    for number, at in enumerate((0, 4, per_epoch - 1, steps - 1)):

        def stopping(self: LengthBuckets, epoch: int, first: int, at: int = at) -> Iterator[Any]:
            for index, batch in enumerate(serve(self, epoch, first), start=first):
                if per_epoch * epoch + index == at:
                    signal.raise_signal(signal.SIGTERM)
                yield batch

        with monkeypatch.context() as patch:
            patch.setattr(LengthBuckets, "_serve", stopping)
            with pytest.raises(Interrupted):
                experiments.run(settings, f"run_dir=cut{number}")
        cut = experiments.run(settings, f"run_dir=cut{number}", "resume=auto")
        for name, tensor in full.module.state_dict().items():
            assert torch.equal(tensor, cut.module.state_dict()[name]), (at, name)
        errors = [
            {k: v for k, v in run.metrics.items() if "error" in k or "loss" in k} for run in (full, cut)
        ]
        assert errors[0] == errors[1]


def test_mistakes_in_the_file_end_a_run_in_one_line(settings: dict[str, Any]) -> None:
    lines = Path("my.dict").read_text().splitlines()
    Path("my.dict").write_text("\n".join([*lines[:4], "broken BR0K3N", *lines[4:]]))
    with pytest.raises(UserError, match=r"^data: my\.dict, line 5: 'BR0K3N' is not a phoneme"):
        experiments.run(settings)


def test_another_dictionary_is_refused_for_the_same_weights(settings: dict[str, Any]) -> None:
    experiments.run(settings, "run_dir=done", "trainer.max_epochs=1")
    Path("my.dict").write_text(Path("my.dict").read_text().replace("b", "c"))
    with pytest.raises(UserError, match=r"source_vocabulary \(5 tokens\) differs from that of"):
        experiments.run(settings, "run_dir=new", "model.init_from=done")

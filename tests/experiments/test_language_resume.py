"""A language model's run that is stopped in any step and continued is, to the bit, the one that wasn't."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import experiments
from experiments import register
from experiments.config import registry
from experiments.errors import Interrupted, UserError
from experiments.training import checkpoint
from experiments.training.curve_file import read_curve_rows
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.language_model import LanguageModel

STEPS_PER_EPOCH, EPOCHS = 5, 3


class Stoppable(LanguageModel):
    """Raises a signal in the training step that it is told to stop at."""

    stop_at: int | None = None
    seen = 0

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        if Stoppable.stop_at == Stoppable.seen:
            Stoppable.stop_at = None
            signal.raise_signal(signal.SIGTERM)
        Stoppable.seen += 1
        return super().training_step(batch, batch_idx)


@pytest.fixture
def settings(language_settings: dict[str, Any], work: Path) -> Iterator[dict[str, Any]]:
    register("model", "stoppable", Stoppable, LanguageModelConfig)
    trainer = {"max_epochs": EPOCHS, "gradient_clip_norm": 0.5, "ema_decay": 0.9, "log_every_n_steps": 1}
    yield {
        **language_settings,
        "model": {**language_settings["model"], "name": "stoppable", "dropout": 0.1},
        "trainer": {**language_settings["trainer"], **trainer},
    }
    Stoppable.stop_at = None
    del registry.CATALOG["model"]["stoppable"]
    registry.OWN.discard(("model", "stoppable"))


def stop(settings: dict[str, Any], *more: str, at: int) -> Interrupted:
    Stoppable.stop_at, Stoppable.seen = at, 0
    with pytest.raises(Interrupted) as caught:
        experiments.run(settings, *more)
    return caught.value


def assert_same(first: Any, second: Any, path: str = "") -> None:
    """Equal to the bit, but for what measures time."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first.keys() - {"fit_seconds", "config"}:
            assert_same(first[key], second[key], f"{path}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), path
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same(a, b, f"{path}[{index}]")
    elif isinstance(first, Tensor):
        assert torch.equal(first, second), path
    else:
        assert first == second, path


def assert_same_runs(full: Path, cut: Path) -> None:
    """Both checkpoints whole (weights, optimizer, schedule, loader, generators), metrics, curve."""
    for name in ("last.ckpt", "best.ckpt"):
        assert_same(*(checkpoint.load(run / "checkpoints" / name) for run in (full, cut)), name)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (full, cut)]
    measured = ("fit_seconds", "samples_per_second", "tokens_per_second", "peak_memory_mb")
    assert metrics[0].keys() == metrics[1].keys()
    assert all(metrics[0][key] == metrics[1][key] for key in metrics[0] if key not in measured)
    curves = [
        [r for r in read_curve_rows(run / "metrics.csv") if "per_second" not in str(r[2])]
        for run in (full, cut)
    ]
    assert curves[0] == curves[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": {"name": "adamw", "lr": 0.01}, "trainer.accumulate_grad_batches": 2},
        {"trainer.precision": "bf16-mixed", "model.position": "learned", "model.tie_embeddings": True},
    ],
    ids=["muon", "adamw, accumulation", "bf16, tied"],
)
def test_a_run_continues_exactly_from_any_step(settings: dict[str, Any], change: dict[str, Any]) -> None:
    """Stopped in the first step, within an epoch, in an epoch's last step, and in the very last."""
    sources = {**{k: v for k, v in settings.items() if k not in change}, **change}
    full = experiments.run(sources, "run_dir=full")
    for number, at in enumerate((0, 7, 2 * STEPS_PER_EPOCH - 1, EPOCHS * STEPS_PER_EPOCH - 1)):
        stopped = stop(sources, f"run_dir=cut{number}", at=at)
        assert stopped.path == Path(f"cut{number}/checkpoints/last.ckpt")
        cut = experiments.run(sources, f"run_dir=cut{number}", "resume=auto")
        assert_same_runs(full.run_dir, cut.run_dir)


@pytest.fixture
def other_text(settings: dict[str, Any]) -> Iterator[None]:
    """A text of other letters, as many, comes to lie behind the same path."""
    path = Path(settings["data"]["path"])
    own = path.read_text(encoding="utf-8")
    path.write_text(own.replace("c", "ß"), encoding="utf-8")
    yield
    path.write_text(own, encoding="utf-8")


def files(folder: str) -> dict[Path, bytes]:
    found = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != "run.log")
    return {path: path.read_bytes() for path in found}


@pytest.mark.slow
def test_another_vocabulary_is_refused_and_nothing_is_overwritten(
    settings: dict[str, Any], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.evaluate.__main__ import main

    stop(settings, "run_dir=cut", at=7)
    experiments.run(settings, "run_dir=done")
    before = files("cut"), files("done")
    request.getfixturevalue("other_text")
    said = (
        r"the data's vocabulary differs from that of .*\.ckpt \(18 tokens each, but different ones\); use the"
    )
    with pytest.raises(UserError, match=said):
        experiments.run("resume=cut")
    with pytest.raises(UserError, match=said):
        experiments.run("resume=done", "trainer.max_epochs=5")
    with pytest.raises(UserError, match="the vocabulary lacks: 'ß'"):  # it is that of the weights
        experiments.run(settings, "run_dir=new", "model.init_from=done")
    capsys.readouterr()
    assert main(["done"]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert (files("cut"), files("done")) == before


def test_weights_start_a_new_run_on_a_text_of_the_same_vocabulary(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    experiments.run(settings, "run_dir=done", "trainer.max_epochs=1")
    overrides = ("model.init_from=done", "data.context_length=12", "trainer.max_epochs=1")
    experiments.run(settings, "run_dir=new", *overrides)
    assert "initialised 36 of 36 tensors from done/checkpoints/best.ckpt" in capsys.readouterr().out

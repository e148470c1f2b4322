"""What must hold on a GPU: a fit, exact resume, compile, bf16, attention, evaluation on a CPU.

Run with `pytest -m gpu` where there is one. Nothing is downloaded.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import experiments
from experiments.errors import Interrupted
from experiments.evaluate.on_data import evaluate
from experiments.training import checkpoint
from lit_modules.layers.scaled_dot_product import scaled_dot_product_attention

DEVICE = "cuda"
STEPS_PER_EPOCH = 6

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


@pytest.fixture
def digits(tiny: dict[str, Any]) -> dict[str, Any]:
    """Three epochs of a small residual network with everything that a resume must restore."""
    return {
        **tiny,
        "model": {"name": "residual_cnn", "widths": [8], "blocks": [1], "dropout": 0.1},
        "data": {**tiny["data"], "augment": {"shift": 1, "rotation": 10}},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "schedule": {"name": "one_cycle"},
        "trainer": {**tiny["trainer"], "max_epochs": 3, "accelerator": DEVICE, "ema_decay": 0.9},
    }


@pytest.fixture
def text(tiny: dict[str, Any], work: Path) -> dict[str, Any]:
    """Ten steps of a small language model on a text of this folder."""
    (work / "cat.txt").write_text("the cat sat on the mat; a dog ran to the café.\n" * 40, encoding="utf-8")
    data = {"name": "text", "path": "cat.txt", "context_length": 16, "batch_size": 8, "steps_per_epoch": 5}
    return {
        "name": "text",
        "model": {"name": "language_model", "depth": 2, "width": 32, "num_heads": 2, "position": "rotary"},
        "data": data,
        "optimizer": {"name": "muon", "lr": 0.02, "adamw_lr": 0.01},
        "trainer": {**tiny["trainer"], "accelerator": DEVICE},
    }


class StopAt(Callback):
    """Sends this process a signal after a number of training steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            signal.raise_signal(signal.SIGTERM)


def tensors(values: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a checkpoint with its place."""
    if isinstance(values, torch.Tensor):
        yield path, values
    elif isinstance(values, dict):
        for key, value in values.items():
            yield from tensors(value, f"{path}.{key}")
    elif isinstance(values, (list, tuple)):
        for index, value in enumerate(values):
            yield from tensors(value, f"{path}[{index}]")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fit_learns(digits: dict[str, Any], precision: str) -> None:
    digits["model"] |= {"widths": [32], "dropout": 0.0}
    digits["data"] |= {"batch_size": 50, "augment": {}}
    digits["trainer"] |= {"precision": precision, "max_epochs": 6, "ema_decay": None}
    result = experiments.run(digits)
    assert result.metrics["test/accuracy"] > 0.9
    environment = json.loads((result.run_dir / "environment.json").read_text())
    assert len(environment["gpus"]) == torch.cuda.device_count()


@pytest.mark.parametrize("step", [2, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 3])
def test_a_run_continues_exactly(digits: dict[str, Any], step: int) -> None:
    digits["model"] = {"name": "mlp", "hidden": [16], "norm": "batch_norm", "dropout": 0.2}
    digits["trainer"] |= {"deterministic": True}
    full = experiments.run(digits, "run_dir=full")
    with pytest.raises(Interrupted):
        experiments.run(digits, "run_dir=cut", callbacks=[StopAt(step)])
    cut = experiments.run(digits, "run_dir=cut", "resume=auto")
    states = [
        dict(tensors(checkpoint.load(run.run_dir / "checkpoints" / "last.ckpt"))) for run in (full, cut)
    ]
    assert states[0].keys() == states[1].keys()
    assert [path for path in states[0] if not torch.equal(states[0][path], states[1][path])] == []
    assert cut.metrics["test/loss"] == full.metrics["test/loss"]


@pytest.mark.parametrize("how", ["true", "cuda-graph", "reduce-overhead"])
def test_compiling_changes_a_fit_only_by_rounding(text: dict[str, Any], how: str) -> None:
    eager = experiments.run(text, "run_dir=eager")
    compiled = experiments.run(text, "run_dir=compiled", f"trainer.compile={how}")
    assert compiled.metrics["test/loss"] == pytest.approx(eager.metrics["test/loss"], rel=1e-3)


def test_replayed_steps_change_nothing(digits: dict[str, Any]) -> None:
    digits["data"] |= {"augment": {"shift": 1, "rotation": 10, "elastic": 1.0}}
    digits["optimizer"] = {"name": "muon", "lr": 0.02, "adamw_lr": 0.01}
    digits["trainer"] |= {"gradient_clip_norm": 1.0}
    runs = [
        experiments.run(digits, f"run_dir=compile_{how}", f"trainer.compile={how}")
        for how in ("false", "cuda-graph")
    ]
    states = [
        dict(tensors(checkpoint.load(run.run_dir / "checkpoints" / "last.ckpt")["state_dict"]))
        for run in runs
    ]
    for path in states[0]:
        torch.testing.assert_close(states[1][path], states[0][path], rtol=1e-4, atol=1e-5)


def test_replayed_steps_continue_exactly(digits: dict[str, Any]) -> None:
    digits["trainer"] |= {"compile": "cuda-graph", "deterministic": True}
    full = experiments.run(digits, "run_dir=full")
    with pytest.raises(Interrupted):
        experiments.run(digits, "run_dir=cut", callbacks=[StopAt(STEPS_PER_EPOCH + 3)])
    cut = experiments.run(digits, "run_dir=cut", "resume=auto")
    assert cut.metrics["test/loss"] == full.metrics["test/loss"]


def test_a_gpus_checkpoint_is_evaluated_on_a_cpu(digits: dict[str, Any]) -> None:
    run = experiments.run(digits)
    metrics = evaluate(run.run_dir, "trainer.accelerator=cpu")
    assert metrics["test/accuracy"] == pytest.approx(run.metrics["test/accuracy"], abs=1 / 360)
    assert metrics["test/loss"] == pytest.approx(run.metrics["test/loss"], rel=1e-3)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("implementation", ["fused", "by_hand", "tiled", "triton"])
def test_attention_equals_the_formula_in_fp64(
    implementation: str, dtype: torch.dtype, tolerance: float, is_causal: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, 33, 32, generator=generator).to(DEVICE, dtype) for heads in (4, 2, 2)
    )
    scores = query.double() @ key.double().repeat_interleave(2, dim=1).mT / 32**0.5
    if is_causal:
        later = torch.ones(33, 33, dtype=torch.bool, device=DEVICE).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    expected = scores.softmax(-1) @ value.double().repeat_interleave(2, dim=1)
    attended = scaled_dot_product_attention(
        query, key, value, is_causal=is_causal, implementation=implementation
    )
    torch.testing.assert_close(attended.double(), expected, rtol=tolerance, atol=tolerance)

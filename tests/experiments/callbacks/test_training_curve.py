"""The points of the training curve are the plain averages that a loop by hand gives."""

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import experiments
from experiments import register
from experiments.callbacks.training_curve import MOST_PENDING, TrainingCurve
from experiments.config import registry
from experiments.errors import RunError
from lit_modules.configs.image_classifier import MLPConfig
from lit_modules.image_classifier import ImageClassifier


class Noted(ImageClassifier):
    """Notes what each step gave."""

    steps: list[dict[str, Any]]
    shown: list[float]

    def on_train_epoch_end(self) -> None:
        Noted.shown.append(float(self.trainer.callback_metrics["train/loss"]))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        outcome = super().training_step(batch, batch_idx)
        images, targets = batch
        weights = [p for p in self.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(F.cross_entropy(self.network(images), targets), weights)
        Noted.steps.append(
            {
                "loss": outcome["loss"].item(),
                "right": (outcome["logits"].argmax(1) == targets).sum().item(),
                "samples": len(targets),
                "norm": math.sqrt(sum(float(g.double().square().sum()) for g in gradients)),
            }
        )
        return outcome


@pytest.fixture
def noted(tiny: dict[str, Any]) -> Any:
    register("model", "noted", Noted, MLPConfig)
    Noted.steps, Noted.shown = [], []
    tiny["model"]["name"] = "noted"
    yield tiny
    del registry.CATALOG["model"]["noted"]


def points(folder: Path, name: str) -> dict[int, float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return {
            int(r["step"]): float(r["value"]) for r in csv.DictReader(file) if r["name"] == f"train/{name}"
        }


def test_each_point_averages_the_steps_since_the_last(noted: dict[str, Any]) -> None:
    result = experiments.run(noted, "trainer.log_every_n_steps=4")
    loss, accuracy, norm = (points(result.run_dir, n) for n in ("loss", "accuracy", "gradient_norm"))
    assert list(loss) == list(accuracy) == list(norm) == [4, 8, 12]
    for step in loss:
        part = Noted.steps[step - 4 : step]
        assert loss[step] == pytest.approx(sum(s["loss"] for s in part) / 4, rel=1e-6)
        right, samples = (sum(s[key] for s in part) for key in ("right", "samples"))
        assert accuracy[step] == pytest.approx(right / samples)
        assert norm[step] == pytest.approx(Noted.steps[step - 1]["norm"], rel=1e-5)
    assert {s["samples"] for s in Noted.steps} == {250, 7}  # an epoch's last batch is smaller
    assert set(points(result.run_dir, "samples_per_second")) == {4, 8, 12}


def test_a_fit_shorter_than_the_interval_has_one_point_at_its_end(noted: dict[str, Any]) -> None:
    result = experiments.run(noted, "trainer.log_every_n_steps=50")
    for name in ("loss", "gradient_norm", "learning_rate", "samples_per_second"):
        assert list(points(result.run_dir, name)) == [12]
    losses = [step["loss"] for step in Noted.steps]
    assert points(result.run_dir, "loss")[12] == pytest.approx(sum(losses) / 12, rel=1e-6)


@pytest.mark.parametrize(
    ("every_n_steps", "averaged"), [(50, (6, 12)), (8, (6, 8)), (2, (2, 2)), (4, (4, 4))]
)
def test_the_line_of_an_epoch_never_repeats_an_older_loss(
    noted: dict[str, Any], every_n_steps: int, averaged: tuple[int, int]
) -> None:
    """An epoch without a point shows the mean since the last point; else its last point."""
    experiments.run(noted, f"trainer.log_every_n_steps={every_n_steps}")
    losses = [step["loss"] for step in Noted.steps]
    ends = [6 if every_n_steps != 4 else 4, {50: 12, 8: 8}.get(every_n_steps, 12)]
    for shown, count, end in zip(Noted.shown, averaged, ends, strict=True):
        assert shown == pytest.approx(sum(losses[end - count : end]) / count, rel=1e-6)


def test_the_norm_is_that_before_clipping(noted: dict[str, Any]) -> None:
    result = experiments.run(noted, "trainer.gradient_clip_norm=0.001", "trainer.log_every_n_steps=1")
    norms = points(result.run_dir, "gradient_norm")
    assert norms[1] == pytest.approx(Noted.steps[0]["norm"], rel=1e-5)
    assert min(norms.values()) > 0.001


def test_accumulated_batches_are_one_step_of_the_curve(noted: dict[str, Any]) -> None:
    result = experiments.run(noted, "trainer.accumulate_grad_batches=2", "trainer.log_every_n_steps=3")
    loss = points(result.run_dir, "loss")
    assert list(loss) == list(points(result.run_dir, "steps_per_second")) == [3, 6]
    assert loss[3] == pytest.approx(sum(s["loss"] for s in Noted.steps[:6]) / 6, rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_refused_at_its_step(noted: dict[str, Any], bad: float) -> None:
    class Breaks(Noted):
        def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            outcome = super().training_step(batch, batch_idx)
            return {**outcome, "loss": outcome["loss"] * (bad if len(Noted.steps) == 3 else 1.0)}

    register("model", "breaks", Breaks, MLPConfig)
    try:
        with pytest.raises(RunError, match=rf"became {bad} at step 3 with learning rate 0\.05"):
            experiments.run(noted, "model.name=breaks", "model.hidden=[8]")
    finally:
        del registry.CATALOG["model"]["breaks"]


def taken_in(losses: list[float], *, save_after: int | None = None) -> dict[str, Any]:
    """The sums over batches of these losses, with a checkpoint taken up in between."""
    curve = TrainingCurve(1000)
    trainer: Any = SimpleNamespace(global_step=0, is_last_batch=False)
    for number, loss in enumerate(losses, 1):
        trainer.global_step = number
        logits = torch.eye(4)[torch.tensor([number % 4, 0])]
        outputs = {"loss": torch.tensor(loss), "logits": logits, "targets": torch.tensor([number % 3, 0])}
        curve.on_train_batch_end(trainer, None, outputs, None, 0)  # type: ignore[arg-type]
        if number == save_after:
            again = TrainingCurve(1000)
            again.load_state_dict(curve.state_dict())
            curve = again
    return curve.state_dict()


@pytest.mark.parametrize("save_after", [1, 7, MOST_PENDING, 120])
def test_the_running_sums_survive_a_checkpoint_to_the_bit(save_after: int) -> None:
    losses = torch.rand(130, generator=torch.Generator().manual_seed(0)).tolist()
    whole = taken_in(losses)
    assert whole["batches"] == 130
    assert whole["loss"] == pytest.approx(math.fsum(losses), rel=1e-12)
    right = [n % 4 == n % 3 for n in range(1, 131)]
    assert (whole["correct"], whole["labelled"]) == (130 + sum(right), 260)
    assert taken_in(losses, save_after=save_after) == whole


def test_large_logits_are_not_held_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.callbacks.training_curve.MOST_HELD", 40)
    trainer: Any = SimpleNamespace(global_step=1, is_last_batch=False)
    curve = TrainingCurve(1000)
    weights = torch.zeros(5, 4, requires_grad=True)
    for _ in range(3):
        outputs = {
            "loss": torch.tensor(1.0),
            "logits": weights * 1,
            "targets": torch.zeros(5, dtype=torch.long),
        }
        curve.on_train_batch_end(trainer, None, outputs, None, 0)  # type: ignore[arg-type]
    assert curve._labelled == 10  # of the first two
    assert len(curve._pending.logits) == 1
    assert curve._pending.logits[0].grad_fn is None  # nor the graph that they came from


def test_text_is_counted_in_tokens_and_validations_within_an_epoch_left_out(
    noted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Noted):
        """On data of 7 tokens a sample; a validation takes a second by the curve's clock."""

        def __init__(self, config: Any, info: Any, **optim: Any) -> None:
            super().__init__(config, info, **optim)
            self.info = SimpleNamespace(context_length=7, input_shape=info.input_shape)

        def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            now[0] += 0.5
            return super().training_step(batch, batch_idx)

        def on_validation_epoch_start(self) -> None:
            now[0] += 1.0

    now = [0.0]
    monkeypatch.setattr("experiments.callbacks.training_curve.time.perf_counter", lambda: now[0])
    register("model", "slow", Slow, MLPConfig)
    try:
        result = experiments.run(
            noted,
            {"model": {"name": "slow", "hidden": [8]}},
            {"trainer": {"check_val_every_n_steps": 3, "log_every_n_steps": 4, "max_epochs": 1}},
            "data.drop_last=true",
        )
    finally:
        del registry.CATALOG["model"]["slow"]
    # The point covers the step after the validation alone.
    assert points(result.run_dir, "tokens_per_second") == {4: 250 * 7 / 0.5}
    assert points(result.run_dir, "steps_per_second") == {4: 1 / 0.5}
    assert not points(result.run_dir, "samples_per_second")
    assert result.metrics["samples_per_second"] == pytest.approx(250 / 0.5)
    assert result.metrics["tokens_per_second"] == pytest.approx(250 * 7 / 0.5)

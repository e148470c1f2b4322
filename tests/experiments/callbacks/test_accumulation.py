"""A step of accumulated batches uses the mean of their gradients, however many batches there are."""

from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import experiments
from lit_modules.image_classifier import ImageClassifier


class Gradients(Callback):
    """Keeps the gradient of every step, and computes the mean over its batches apart from Lightning."""

    def __init__(self) -> None:
        self.used: list[torch.Tensor] = []
        self.means: list[torch.Tensor] = []
        self._batches: list[torch.Tensor] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: ImageClassifier, batch: Any, batch_idx: int
    ) -> None:
        loss = pl_module.training_step(batch, batch_idx)["loss"]
        slopes = torch.autograd.grad(loss, list(pl_module.parameters()))
        self._batches.append(torch.cat([slope.flatten() for slope in slopes]))

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, _: Any) -> None:
        gradients = [p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]
        self.used.append(torch.cat(gradients).clone())
        self.means.append(torch.stack(self._batches).mean(0))
        self._batches = []


@pytest.mark.parametrize(
    ("group", "batches", "steps"), [(1000, 20, 1), (4, 6, 2), (4, 5, 2), (3, 6, 2), (1, 3, 3), (5, 3, 1)]
)
def test_a_step_uses_the_mean_gradient_of_its_batches(
    tiny: dict[str, Any], group: int, batches: int, steps: int
) -> None:
    tiny["data"]["batch_size"] = 64
    tiny["trainer"] |= {
        "max_epochs": 2,
        "accumulate_grad_batches": group,
        "limit_train_batches": batches,
        "precision": "64-true",
    }
    noted = Gradients()
    experiments.run(tiny, callbacks=[noted])
    assert len(noted.used) == 2 * steps
    for used, mean in zip(noted.used, noted.means, strict=True):
        torch.testing.assert_close(used, mean, rtol=1e-12, atol=1e-15)


def test_full_groups_keep_every_bit(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Six batches in groups of three, with the callback and without it."""
    from experiments.callbacks.accumulation import GroupAverage

    tiny["trainer"]["accumulate_grad_batches"] = 3
    with_it = experiments.run(tiny).module
    monkeypatch.setattr(GroupAverage, "on_before_backward", lambda *_: None)
    without = experiments.run(tiny).module
    assert with_it is not None
    assert without is not None
    for ours, expected in zip(with_it.parameters(), without.parameters(), strict=True):
        assert torch.equal(ours, expected)

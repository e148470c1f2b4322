"""The average of the weights, held to PyTorch's own and to its closed form, and who sees which weights."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import experiments
from experiments import register
from experiments.callbacks.weight_average import WeightAverage, averaged_tensors
from experiments.config import registry
from experiments.training import checkpoint
from lit_modules.configs.image_classifier import MLPConfig
from lit_modules.image_classifier import ImageClassifier


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def walk(
    module: nn.Module, average: WeightAverage, steps: int, watch: Callable[[int], None] = lambda n: None
) -> None:
    """Change the weights at random and tell the callback, as a fit does."""
    trainer: Any = SimpleNamespace(global_step=0, state=SimpleNamespace(fn="fit"))
    lit: Any = module
    average.on_fit_start(trainer, lit)
    for step in range(1, steps + 1):
        with torch.no_grad():
            module.train()(torch.randn(8, 3))  # moves the running statistics
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        trainer.global_step = step
        for _ in range(2):  # a batch that ends no step changes nothing
            average.on_train_batch_end(trainer, lit, None, None, step)
        watch(step)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_the_average_is_pytorchs_with_the_same_decay_at_each_step(decay: float) -> None:
    module, ours = network(), WeightAverage(decay)
    now = [0.0]
    oracle = AveragedModel(
        module,
        multi_avg_fn=lambda averages, live, count: get_ema_multi_avg_fn(now[0])(averages, live, count),
        use_buffers=True,
    )
    oracle.n_averaged += 1  # it would copy the first weights instead of averaging them with the start

    def watch(step: int) -> None:
        now[0] = min(decay, (1 + step) / (10 + step))
        oracle.update_parameters(module)

    walk(module, ours, 30, watch)
    expected = {k: v for k, v in oracle.module.state_dict().items() if v.is_floating_point()}
    averages = dict(zip(ours._names, ours._average, strict=True))
    assert averages.keys() == expected.keys()
    assert "1.running_var" in averages
    for key in averages:
        torch.testing.assert_close(averages[key], expected[key], rtol=1e-5, atol=1e-6)


def test_the_average_is_its_closed_form() -> None:
    """Σₙ (1 − dₙ) θₙ Πₘ₍ₘ>ₙ₎ dₘ + θ₀ Π dₙ, in fp64."""
    module, average = network().double(), WeightAverage(0.8)
    torch.set_default_dtype(torch.float64)
    history = [module.get_parameter("0.weight").detach().clone()]
    walk(module, average, 40, lambda step: history.append(module.get_parameter("0.weight").detach().clone()))
    expected = history[0].clone()
    for step, weights in enumerate(history[1:], 1):
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(average._average[average._names.index("0.weight")], expected)


def test_counters_are_not_averaged() -> None:
    assert "1.num_batches_tracked" not in averaged_tensors(network())
    assert len(averaged_tensors(network())) == 8


class Watched(ImageClassifier):
    """Notes the weights that each stage sees."""

    seen: list[tuple[str, Tensor]]

    def _note(self, stage: str) -> None:
        Watched.seen.append((stage, next(self.network.parameters()).detach().clone()))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self._note("train")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self._note("sanity" if self.trainer.sanity_checking else "val")
        return super().validation_step(batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        self._note("test")
        return super().test_step(batch, batch_idx)


def test_validation_test_and_checkpoint_see_the_average_and_training_its_own_weights(
    tiny: dict[str, Any],
) -> None:
    register("model", "watched", Watched, MLPConfig)
    Watched.seen = []
    tiny["model"]["name"] = "watched"
    tiny["data"]["eval_batch_size"] = 1000
    try:
        result = experiments.run(tiny, "trainer.ema_decay=0.9", "trainer.max_epochs=1")
    finally:
        del registry.CATALOG["model"]["watched"]
    stages = [stage for stage, _ in Watched.seen]
    assert stages == ["sanity", *["train"] * 6, "val", "test"]
    weights = [value for _, value in Watched.seen]
    saved = checkpoint.load(result.run_dir / "checkpoints" / "best.ckpt")
    key = next(key for key in saved["state_dict"] if key.startswith("network"))
    average, live = saved["state_dict"][key], saved["training_state_dict"][key]
    assert torch.equal(weights[7], average)
    assert torch.equal(weights[8], average)
    assert torch.equal(next(iter(result.module.network.parameters())), average)
    expected = weights[1]
    for step, after in enumerate([*weights[2:7], live], 1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = expected + (1 - decay) * (after - expected)
    torch.testing.assert_close(average, expected)
    assert not torch.equal(average, live)


def test_an_exception_leaves_the_module_its_own_weights() -> None:
    module, average = network(), WeightAverage(0.5)
    walk(module, average, 3)
    live = {k: v.clone() for k, v in module.state_dict().items()}
    trainer: Any = SimpleNamespace(state=SimpleNamespace(fn="fit"))
    lit: Any = module
    average.on_validation_start(trainer, lit)
    assert not torch.equal(module.state_dict()["0.weight"], live["0.weight"])
    average.on_exception(trainer, lit, RuntimeError())
    assert all(torch.equal(value, live[key]) for key, value in module.state_dict().items())


def test_without_averaging_a_checkpoint_holds_the_weights_alone(tiny: dict[str, Any], work: Path) -> None:
    result = experiments.run(tiny, "trainer.max_epochs=1")
    saved = checkpoint.load(result.run_dir / "checkpoints" / "last.ckpt")
    assert "training_state_dict" not in saved
    assert isinstance(result.module, L.LightningModule)

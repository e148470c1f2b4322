"""The losses by position are those of the module's own logits, and measuring changes no training."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import experiments
from experiments.config.check import load_config
from experiments.errors import UserError
from experiments.training.build import build_data
from experiments.training.curve_file import read_curves

SHORTER = {"data.context_length": 40, "data.train_context_length": 8, "data.eval_batch_size": 3}


def settings(language_settings: dict[str, Any], work: Path, **more: Any) -> list[Any]:
    values = {**SHORTER, "run_dir": str(work / "run"), "trainer.measure": "[loss_by_position]", **more}
    return [language_settings, *(f"{key}={value}" for key, value in values.items())]


@pytest.mark.slow
def test_the_losses_are_those_of_the_logits(language_settings: dict[str, Any], work: Path) -> None:
    config = settings(language_settings, work)
    result = experiments.run(*config)
    data = build_data(load_config(*config))
    network = result.module.network.eval()  # type: ignore[union-attr]
    sums, counts = torch.zeros(40), torch.zeros(40)
    with torch.no_grad():
        for tokens, targets in data.test_dataloader():
            losses = F.cross_entropy(network(tokens).transpose(1, 2), targets, reduction="none")
            sums += losses.sum(0)  # F.cross_entropy gives 0 for an ignored target
            counts += (targets != -100).sum(0)
    curve = read_curves(result.run_dir)["test/loss_by_position"]
    assert [position for position, _ in curve] == list(range(2, 41, 2))
    expected = sums.view(20, 2).sum(1) / counts.view(20, 2).sum(1)
    assert [loss for _, loss in curve] == pytest.approx(expected.tolist(), rel=1e-5)
    metrics = result.metrics
    assert metrics["test/loss_inside"] == pytest.approx(float(sums[:8].sum() / counts[:8].sum()), rel=1e-5)
    assert metrics["test/loss_beyond"] == pytest.approx(float(sums[8:].sum() / counts[8:].sum()), rel=1e-5)
    mean = (sums.sum() / counts.sum()).item()
    assert metrics["test/loss"] == pytest.approx(mean, rel=1e-5)


@pytest.mark.slow
def test_the_loss_inside_can_choose_the_checkpoint(language_settings: dict[str, Any], work: Path) -> None:
    result = experiments.run(
        *settings(language_settings, work, **{"trainer.monitor": "val/loss_inside", "trainer.max_epochs": 3})
    )
    curve = read_curves(result.run_dir)["val/loss_inside"]
    assert len(curve) == 3
    assert result.metrics["val/loss_inside"] == pytest.approx(min(loss for _, loss in curve))


@pytest.mark.slow
def test_measuring_changes_no_training(language_settings: dict[str, Any], work: Path) -> None:
    measured = experiments.run(*settings(language_settings, work))
    plain = experiments.run(
        *settings(language_settings, work, **{"trainer.measure": "[]", "run_dir": str(work / "plain")})
    )
    assert plain.metrics["test/loss"] == measured.metrics["test/loss"]
    assert measured.metrics.keys() - plain.metrics.keys() == {
        f"{stage}/loss_{part}" for stage in ("val", "test") for part in ("inside", "beyond")
    }


@pytest.mark.slow
def test_with_equal_windows_there_is_only_the_curve(language_settings: dict[str, Any], work: Path) -> None:
    result = experiments.run(*settings(language_settings, work, **{"data.train_context_length": "null"}))
    assert "test/loss_by_position" in read_curves(result.run_dir)
    assert "test/loss_inside" not in result.metrics


@pytest.mark.parametrize("measure", ["loss_by_position", "decoding"])
def test_a_model_without_windows_is_refused(work: Path, measure: str) -> None:
    config = {"model": {"name": "char_rnn"}, "data": {"name": "hello"}, "run_dir": "run"}
    with pytest.raises(UserError, match=rf"{measure} needs a transformer language model, but .* is char_rnn"):
        experiments.run(config, f"trainer.measure=[{measure}]")
    assert not (work / "run").exists()

"""The logged norms are those of a backward pass by hand."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import experiments
from experiments.training.curve_file import read_curves
from lit_modules.image_classifier import ImageClassifier


def test_the_norms_of_each_matrix_are_logged_at_the_first_step_and_at_each_point(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[list[float]] = []
    step = ImageClassifier.training_step

    def noted(self: Any, batch: Any, batch_idx: int) -> Any:
        weights = [p for p in self.network.parameters() if p.ndim > 1]
        gradients = torch.autograd.grad(F.cross_entropy(self.network(batch[0]), batch[1]), weights)
        expected.append([float(g.norm()) for g in gradients])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ImageClassifier, "training_step", noted)
    result = experiments.run(tiny, "trainer.measure=[layer_gradients]", "trainer.log_every_n_steps=4")
    curves = read_curves(result.run_dir, "step")
    names = sorted(name for name in curves if name.startswith("layer_gradient"))
    assert names == [f"layer_gradient/{number:02}" for number in range(1, len(expected[0]) + 1)]
    for number, name in enumerate(names):
        steps = [step for step, _ in curves[name]]
        assert steps[:3] == [1, 4, 8]
        wanted = [expected[step - 1][number] for step in steps]
        assert [value for _, value in curves[name]] == pytest.approx(wanted, rel=1e-5)

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lit_modules.functional.numpy_network import Weights, forward, loss_and_gradient


def weights(scale: float = 1.0) -> Weights:
    rng = np.random.default_rng(0)
    return Weights(*(scale * rng.standard_normal(shape) for shape in ((5, 4), (5,), (3, 5), (3,))))


def test_loss_and_gradient_are_those_of_autograd() -> None:
    x, targets = np.random.default_rng(1).standard_normal((7, 4)), np.array([0, 1, 2, 2, 1, 0, 2])
    loss, logits, gradient = loss_and_gradient(x, targets, weights())
    w1, b1, w2, b2 = leaves = [torch.tensor(w, requires_grad=True) for w in weights()]
    expected_logits = F.linear(F.relu(F.linear(torch.tensor(x), w1, b1)), w2, b2)
    expected = F.cross_entropy(expected_logits, torch.tensor(targets))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(logits, expected_logits.detach(), rtol=1e-12)
    for ours, leaf in zip(gradient, leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad, rtol=1e-10, atol=1e-14)


def test_large_logits_do_not_overflow() -> None:
    x, targets = np.random.default_rng(1).standard_normal((7, 4)), np.zeros(7, dtype=np.int64)
    loss, _, gradient = loss_and_gradient(x, targets, weights(1e4))
    assert np.isfinite(loss)
    assert loss > 1e4
    assert all(np.isfinite(g).all() for g in gradient)


def test_a_hidden_unit_without_activation_has_no_gradient() -> None:
    still = weights()._replace(b1=np.array([0, 0, -1e3, 0, 0]))
    x, targets = np.random.default_rng(1).standard_normal((7, 4)), np.zeros(7, dtype=np.int64)
    gradient = loss_and_gradient(x, targets, still)[2]
    assert not gradient.w1[2].any()
    assert not gradient.w2[:, 2].any()
    assert gradient.w1[0].any()
    assert (forward(x, still)[0][:, 2] == 0).all()

"""Oracles: PyTorch's activations, and the two or three products written out."""

from collections.abc import Callable

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from lit_modules.layers import feed_forward
from lit_modules.layers.feed_forward import FeedForward, SwiGLU

ORACLES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "squared_relu": lambda x: F.relu(x) ** 2,
    "silu": F.silu,
}
HARD = [-1e4, -100.0, -30.0, -5.0, -1.0, -1e-4, -0.0, 0.0, 1e-4, 0.7, 1.0, 5.0, 30.0, 100.0, 1e4]


def with_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    y = function(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


@pytest.mark.parametrize("name", ORACLES)
def test_activations_by_hand_equal_pytorch_at_hard_inputs(name: str):
    x = torch.tensor(HARD, dtype=torch.float64)
    ours = with_gradient(getattr(feed_forward, name), x)
    torch.testing.assert_close(ours, with_gradient(ORACLES[name], x), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_as_accurate_as_pytorch(name: str, dtype: torch.dtype):
    x = torch.randn(4096, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    truth = with_gradient(ORACLES[name], x.double())

    def errors(function: Callable[[Tensor], Tensor]) -> list[float]:
        pairs = zip(with_gradient(function, x), truth, strict=True)
        return [float((narrow.double() - exact).norm()) for narrow, exact in pairs]

    ours, theirs = errors(getattr(feed_forward, name)), errors(ORACLES[name])
    assert all(mine <= 1.5 * reference + 1e-12 for mine, reference in zip(ours, theirs, strict=True))


def test_a_nan_is_not_hidden():
    assert feed_forward.relu(torch.tensor([float("nan")])).isnan().all()


@pytest.mark.parametrize("implementation", ["fused", "by_hand"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "squared_relu"])
@pytest.mark.parametrize("bias", [False, True])
def test_feed_forward_equals_its_formula(implementation: str, activation: str, bias: bool):
    layer = FeedForward(5, 7, activation=activation, bias=bias, implementation=implementation).double()
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    hidden = ORACLES[activation](F.linear(x, layer.up.weight, layer.up.bias))
    expected = F.linear(hidden, layer.down.weight, layer.down.bias)
    inputs = [x, *layer.parameters()]
    assert len(inputs) == (5 if bias else 3)
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(y.cos().sum(), inputs) for y in (layer(x), expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("implementation", ["fused", "by_hand"])
@pytest.mark.parametrize("bias", [False, True])
def test_swiglu_equals_its_formula(implementation: str, bias: bool):
    layer = SwiGLU(5, 7, bias=bias, implementation=implementation).double()
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    gate, up = (F.linear(x, part.weight, part.bias) for part in (layer.gate, layer.up))
    expected = F.linear(F.silu(gate) * up, layer.down.weight, layer.down.bias)
    inputs = [x, *layer.parameters()]
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(y.cos().sum(), inputs) for y in (layer(x), expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", [FeedForward, SwiGLU])
def test_dropout_falls_on_hidden_units_and_on_the_result_in_training_only(kind: type[nn.Module]):
    x = torch.ones(4, 5)
    torch.manual_seed(0)
    hidden_dropped = kind(5, 400, dropout=0.5)
    without = hidden_dropped.eval()(x)
    assert torch.equal(without, hidden_dropped(x))
    assert not torch.allclose(hidden_dropped.train()(x), without)

    result_dropped = kind(5, 400, output_dropout=0.5).train()
    y = result_dropped(x)
    kept = y != 0
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(y[kept], 2 * result_dropped.eval()(x)[kept])


@pytest.mark.parametrize("kind", [FeedForward, SwiGLU])
def test_wrong_arguments_are_named(kind: type[nn.Module]):
    with pytest.raises(ValueError, match="implementation is 'tiled'"):
        kind(5, 7, implementation="tiled")
    with pytest.raises(ValueError, match=r"dropout is 1\.5"):
        kind(5, 7, dropout=1.5)
    with pytest.raises(ValueError, match="activation is 'swish'"):
        FeedForward(5, 7, activation="swish")

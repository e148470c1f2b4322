"""Oracle: `F.linear`."""

import pytest
import torch
import torch.nn.functional as F

from lit_modules.layers.linear import Linear, linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 4, 3)])
def test_values_and_gradients_are_pytorchs(shape: tuple[int, ...], bias: bool) -> None:
    layer = Linear(3, 5, bias=bias).double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    expected = F.linear(x, layer.weight, layer.bias)
    for y in (layer(x), linear(x, layer.weight, layer.bias)):
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        gradients = [torch.autograd.grad(z.sin().sum(), inputs, retain_graph=True) for z in (y, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)

import pytest
import torch
import torch.nn.functional as F

from lit_modules.layers.self_attention import SelfAttention


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("head_dim", [None, 3])
def test_equals_pytorch(is_causal: bool, length: int, head_dim: int | None):
    attention = SelfAttention(4, head_dim=head_dim, is_causal=is_causal).double()
    x = torch.randn(
        2, length, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    query, key, value = (x @ layer.weight.T for layer in (attention.query, attention.key, attention.value))
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
    output, weights = attention(x)
    assert output.shape == (2, length, head_dim or 4)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-12)
    inputs = [x, *attention.parameters()]
    gradients = [torch.autograd.grad(y.sin().sum(), inputs) for y in (output, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)

    torch.testing.assert_close(weights.sum(-1), torch.ones(2, length, dtype=torch.float64))
    if is_causal:
        assert torch.equal(weights.triu(1), torch.zeros_like(weights))

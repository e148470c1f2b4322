"""What PyTorch's layers don't have; what they have is compared in `test_transformer_conversion.py`."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from lit_modules.configs.transformer import TransformerConfig
from lit_modules.layers.transformer_layer import DecoderLayer, EncoderLayer, build_norm, build_rotary

LLAMA = TransformerConfig(
    width=8,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_width=12,
    feed_forward="swiglu",
    norm="rms_norm",
    bias=False,
    position="rotary",
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomised(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(0.5 * normal(*parameter.shape, seed=number + 1))
    return module.double()


def test_a_llama_layer_equals_its_formula():
    """Written out with PyTorch's functions; rotation as a product of complex numbers."""
    layer = randomised(EncoderLayer(LLAMA, is_causal=True, rotary=build_rotary(LLAMA)))
    x = normal(2, 5, 8, seed=9).requires_grad_()
    unit = torch.polar(torch.ones(5, 1, dtype=torch.float64), torch.arange(5.0, dtype=torch.float64)[:, None])

    def heads(h: Tensor, linear: nn.Linear, turn: bool) -> Tensor:
        h = F.linear(h, linear.weight).unflatten(-1, (-1, 2)).transpose(1, 2)
        turned = torch.view_as_real(torch.complex(h[..., :1], h[..., 1:]) * unit).flatten(-2)
        return turned if turn else h

    attention, h = layer.attention, F.rms_norm(x, (8,), layer.attention_norm.weight, 1e-5)
    query, key = heads(h, attention.query, True), heads(h, attention.key, True).repeat_interleave(2, dim=1)
    value = heads(h, attention.value, False).repeat_interleave(2, dim=1)
    attended = F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2)
    middle = x + F.linear(attended, attention.output.weight)
    h, part = F.rms_norm(middle, (8,), layer.feed_forward_norm.weight, 1e-5), layer.feed_forward
    hidden = F.silu(F.linear(h, part.gate.weight)) * F.linear(h, part.up.weight)
    expected = middle + F.linear(hidden, part.down.weight)

    output = layer(x)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-12)
    inputs = [x, *layer.parameters()]
    assert len(inputs) == 1 + 4 + 3 + 2  # no biases
    cotangent = normal(2, 5, 8, seed=10)
    gradients = [torch.autograd.grad(y, inputs, grad_outputs=cotangent) for y in (output, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        LLAMA,
        replace(
            LLAMA,
            norm_first=False,
            norm="layer_norm",
            bias=True,
            feed_forward="squared_relu",
            position="learned",
        ),
        replace(LLAMA, head_dim=6, qk_norm=True, window=2, rotary_layout="adjacent_pairs", norm_eps=0.1),
        replace(LLAMA, feed_forward="gelu_tanh", norm_partial=0.5, norm_bias=True),
    ],
)
@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_by_hand_and_tiled_equal_fused(options: TransformerConfig, kind: Callable[..., nn.Module]):
    x, context = normal(2, 5, 8), normal(2, 3, 8, seed=1)
    outputs = []
    for implementation in ("fused", "by_hand", "tiled"):
        chosen = replace(options, implementation=implementation)
        layer = randomised(kind(chosen, rotary=build_rotary(chosen)))
        output = layer(x) if kind is EncoderLayer else layer(x, context)
        outputs.append((output, *torch.autograd.grad(output.sin().sum(), list(layer.parameters()))))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(outputs[2], outputs[0], rtol=1e-10, atol=1e-12)


def test_dropout_reaches_every_branch_in_training_only():
    options = replace(LLAMA, dropout=0.5, hidden_dropout=0.4, attention_dropout=0.25, bias=True)
    layer = DecoderLayer(options)
    for attention in (layer.self_attention, layer.cross_attention):
        assert (attention.dropout, attention.output_dropout.p) == (0.25, 0.5)
    assert (layer.feed_forward.dropout.p, layer.feed_forward.output_dropout.p) == (0.4, 0.5)
    x = normal(1, 4, 8).float()
    assert torch.equal(layer.eval()(x, x), layer(x, x))
    assert not torch.equal(layer.train()(x, x), layer(x, x))


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="norm is 'batch_norm', expected one of 'layer_norm', 'rms_norm'"):
        EncoderLayer(replace(LLAMA, norm="batch_norm"))
    with pytest.raises(ValueError, match="activation is 'swish'"):
        EncoderLayer(replace(LLAMA, feed_forward="swish"))


def test_options_of_the_norms():
    assert build_norm(LLAMA).bias is None
    norm = build_norm(replace(LLAMA, norm_bias=True, norm_partial=0.5, norm_eps=0.1))
    assert (norm.bias.shape, norm.num_measured, norm.eps) == ((8,), 4, 0.1)
    for bias, norm_bias, expected in [(True, None, True), (False, None, False), (False, True, True)]:
        config = TransformerConfig(bias=bias, norm_bias=norm_bias)
        assert (build_norm(config).bias is not None) == expected

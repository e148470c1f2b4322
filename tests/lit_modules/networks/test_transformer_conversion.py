"""Oracles: PyTorch's own layers and stacks. Their masks mean True = blocked."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.networks.transformer_conversion import (
    attention_from_torch,
    decoder_from_torch,
    decoder_layer_from_torch,
    encoder_from_torch,
    encoder_layer_from_torch,
)

CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)
KEY_MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
CONTEXT_MASK = torch.tensor([[True] * 4 + [False] * 3, [True] * 7])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(kind: type[nn.Module], **options: Any) -> Any:
    """A layer of PyTorch's in fp64 with random weights and biases, the norms' too."""
    layer = kind(8, 2, 12, batch_first=True, dtype=torch.float64, dropout=0.0, **options)
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = 0.5 * normal(*parameter.shape, seed=number)
    return layer


def gradients(output: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, inputs, grad_outputs=normal(*output.shape, seed=77))


def assert_same(ours: Tensor, theirs: Tensor, inputs: Sequence[Tensor]) -> None:
    """Where tokens are real; what stands in padding is nobody's business."""
    ours, theirs = ours[KEY_MASK], theirs[KEY_MASK]
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(ours, inputs), gradients(theirs, inputs), rtol=1e-10, atol=1e-12)


OPTIONS = [
    {},
    {"norm_first": True},
    {"activation": "gelu", "layer_norm_eps": 0.1},
    {"activation": nn.GELU(approximate="tanh"), "norm_first": True},
    {"activation": nn.ReLU()},
    {"activation": nn.GELU(), "bias": False, "norm_first": True},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("is_causal", [False, True])
def test_encoder_layer(options: dict[str, Any], is_causal: bool):
    theirs = build(nn.TransformerEncoderLayer, **options)
    ours = encoder_layer_from_torch(theirs, is_causal=is_causal)
    x = normal(2, 5, 8, seed=50).requires_grad_()
    expected = theirs(x, src_mask=CAUSAL if is_causal else None, src_key_padding_mask=~KEY_MASK)
    assert_same(ours(x, key_mask=KEY_MASK), expected, [x])


@pytest.mark.parametrize("options", OPTIONS)
def test_decoder_layer(options: dict[str, Any]):
    theirs = build(nn.TransformerDecoderLayer, **options)
    ours = decoder_layer_from_torch(theirs)
    x, context = normal(2, 5, 8, seed=50).requires_grad_(), normal(2, 7, 8, seed=51).requires_grad_()
    blocked = {"tgt_key_padding_mask": ~KEY_MASK, "memory_key_padding_mask": ~CONTEXT_MASK}
    expected = theirs(x, context, tgt_mask=CAUSAL, **blocked)
    output = ours(x, context, key_mask=KEY_MASK, context_mask=CONTEXT_MASK)
    assert_same(output, expected, [x, context])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("with_norm", [False, True])
def test_encoder(norm_first: bool, with_norm: bool):
    norm = nn.LayerNorm(8, eps=0.01, dtype=torch.float64) if with_norm else None
    layer = build(nn.TransformerEncoderLayer, norm_first=norm_first)
    theirs = nn.TransformerEncoder(layer, 3, norm, enable_nested_tensor=False)
    for number, parameter in enumerate(theirs.parameters()):
        parameter.data = 0.5 * normal(*parameter.shape, seed=number)  # each layer its own
    ours = encoder_from_torch(theirs)
    x = normal(2, 5, 8, seed=50).requires_grad_()
    expected = theirs(x, src_key_padding_mask=~KEY_MASK)
    assert_same(ours(x, key_mask=KEY_MASK), expected, [x])

    with torch.no_grad():  # PyTorch's inference path puts zeros in padded places, ours doesn't
        inference = theirs.eval()(x, src_key_padding_mask=~KEY_MASK)
        torch.testing.assert_close(ours.eval()(x, key_mask=KEY_MASK)[KEY_MASK], inference[KEY_MASK])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("with_norm", [False, True])
def test_decoder(norm_first: bool, with_norm: bool):
    norm = nn.LayerNorm(8, bias=False, dtype=torch.float64) if with_norm else None
    theirs = nn.TransformerDecoder(build(nn.TransformerDecoderLayer, norm_first=norm_first), 2, norm)
    for number, parameter in enumerate(theirs.parameters()):
        parameter.data = 0.5 * normal(*parameter.shape, seed=number)
    ours = decoder_from_torch(theirs)
    x, context = normal(2, 5, 8, seed=50).requires_grad_(), normal(2, 7, 8, seed=51).requires_grad_()
    blocked = {"tgt_key_padding_mask": ~KEY_MASK, "memory_key_padding_mask": ~CONTEXT_MASK}
    expected = theirs(x, context, tgt_mask=CAUSAL, **blocked)
    output = ours(x, context, key_mask=KEY_MASK, context_mask=CONTEXT_MASK)
    assert_same(output, expected, [x, context])


def test_type_mode_and_dropout_come_along_and_weights_are_copies():
    theirs = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.3, batch_first=True, dtype=torch.bfloat16).eval()
    ours = encoder_layer_from_torch(theirs)
    assert not ours.training
    assert {p.dtype for p in ours.parameters()} == {torch.bfloat16}
    rates = (ours.attention.dropout, ours.attention.output_dropout.p, ours.feed_forward.dropout.p)
    assert rates == (0.3, 0.3, 0.3)
    ours.feed_forward.up.weight.data.zero_()
    assert theirs.linear1.weight.any()
    assert attention_from_torch(nn.MultiheadAttention(8, 2)).training


def test_what_ours_does_not_have_is_refused():
    with pytest.raises(ValueError, match="kdim 5 and vdim 6 differ"):
        attention_from_torch(nn.MultiheadAttention(8, 2, kdim=5, vdim=6))
    for option in ("add_bias_kv", "add_zero_attn"):
        with pytest.raises(ValueError, match="aren't supported"):
            attention_from_torch(nn.MultiheadAttention(8, 2, **{option: True}))
    with pytest.raises(ValueError, match=r"SiLU\(\) isn't ReLU or GELU"):
        encoder_layer_from_torch(nn.TransformerEncoderLayer(8, 2, 12, activation=nn.SiLU()))
    odd = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 12), 1, nn.RMSNorm(8))
    with pytest.raises(ValueError, match=r"expected an nn\.LayerNorm with weights, got RMSNorm"):
        decoder_from_torch(odd)

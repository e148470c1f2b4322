"""Oracle: PyTorch's own `nn.Transformer` with the same weights. Its masks mean True = blocked."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.configs.seq2seq import Seq2SeqConfig
from lit_modules.layers.positional import SinusoidalPositions
from lit_modules.networks.encoder_decoder import EncoderDecoder
from lit_modules.networks.transformer_conversion import decoder_from_torch, encoder_from_torch

SOURCE = torch.tensor([[3, 4, 5, 6, 2], [5, 2, 0, 0, 0], [4, 6, 2, 0, 0]])
TARGET = torch.tensor([[1, 3, 4, 2], [1, 5, 2, 0], [1, 2, 0, 0]])
PLAIN = Seq2SeqConfig(
    depth=2,
    decoder_depth=3,
    width=8,
    num_heads=2,
    feed_forward_width=12,
    position="none",
    tie_embeddings=False,
)
SIZES = {"source_vocab_size": 7, "target_vocab_size": 6, "source_length": 9, "target_length": 8}


def fresh(sizes: dict[str, int] | None = None, **values: Any) -> EncoderDecoder:
    return EncoderDecoder(replace(PLAIN, **values), **(SIZES | (sizes or {})))


def build(sizes: dict[str, int] | None = None, **values: Any) -> EncoderDecoder:
    network = fresh(sizes, **values).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network.eval()


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


VARIANTS: dict[str, dict[str, Any]] = {
    "sinusoidal": {"position": "sinusoidal", "tie_embeddings": True},
    "learned": {"position": "learned", "norm_first": False},
    "shared": {"share_embeddings": True, "sizes": {"source_vocab_size": 6}, "tie_embeddings": True},
    "rotary": {"position": "rotary", "rotary_base": 50.0, "num_kv_heads": 1, "feed_forward": "swiglu"},
    "by_hand": {"implementation": "by_hand", "qk_norm": True},
    "tiled": {"implementation": "tiled"},
}


@pytest.mark.parametrize("norm_first", [False, True])
def test_equals_pytorch_s_transformer_with_the_same_weights(norm_first: bool) -> None:
    layer: dict[str, Any] = {"dropout": 0.0, "activation": "gelu", "batch_first": True}
    layer["norm_first"] = norm_first
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 12, **layer), 2, nn.LayerNorm(8), enable_nested_tensor=False
    )
    theirs = nn.Transformer(8, 2, 2, 3, 12, custom_encoder=encoder, **layer).double()
    for number, parameter in enumerate(theirs.parameters()):
        generator = torch.Generator().manual_seed(number)
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    ours = build(feed_forward="gelu", position="sinusoidal", tie_embeddings=True)
    ours.encoder, ours.decoder = encoder_from_torch(theirs.encoder), decoder_from_torch(theirs.decoder)

    place = SinusoidalPositions(8)(torch.arange(5), dtype=torch.float64)
    causal = torch.ones(4, 4, dtype=torch.bool).triu(1)
    expected = (
        theirs(
            math.sqrt(8) * ours.source_embedding.weight[SOURCE] + place,
            math.sqrt(8) * ours.target_embedding.weight[TARGET] + place[:4],
            tgt_mask=causal,
            src_key_padding_mask=SOURCE == 0,
            tgt_key_padding_mask=TARGET == 0,
            memory_key_padding_mask=SOURCE == 0,
        )
        @ ours.target_embedding.weight.T
    )
    real = TARGET != 0
    close(ours(SOURCE, TARGET)[real], expected[real])
    gradients = [
        torch.autograd.grad(output[real].square().sum(), ours.source_embedding.weight, retain_graph=True)[0]
        for output in (ours(SOURCE, TARGET), expected)
    ]
    close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", VARIANTS)
def test_padding_changes_nothing(name: str) -> None:
    network = build(**VARIANTS[name])
    source = SOURCE.clamp(max=5)
    wide = torch.cat([source, torch.zeros(3, 3, dtype=torch.long)], dim=1)
    with torch.no_grad():
        context, mask = network.encode(wide)
        together = network(wide, TARGET)
        for row in range(3):
            alone, target = source[row][source[row] != 0][None], TARGET[row][TARGET[row] != 0][None]
            own, own_mask = network.encode(alone)
            assert own_mask is None
            assert mask is not None
            close(context[row, mask[row]], own[0])
            close(together[row, : target.shape[1]], network(alone, target)[0])


@pytest.mark.parametrize("name", VARIANTS)
def test_cached_decoding_equals_teacher_forcing(name: str) -> None:
    network = build(**VARIANTS[name])
    with torch.no_grad():
        context, mask = network.encode(SOURCE.clamp(max=5))
        at_once = network.decode(TARGET, context, mask)
        cache = network.make_cache(4)
        outputs = [network.decode(TARGET[:, :2], context, mask, cache=cache)]
        outputs += [network.decode(TARGET[:, [t]], cache=cache) for t in (2, 3)]
    close(torch.cat(outputs, dim=1), at_once)


def test_no_token_sees_a_later_one() -> None:
    network, changed = build(), TARGET.clone()
    changed[:, 2:] = 5
    close(network(SOURCE, changed)[:, :2], network(SOURCE, TARGET)[:, :2])
    assert not torch.allclose(network(SOURCE, changed)[:, 2:], network(SOURCE, TARGET)[:, 2:])


@pytest.mark.parametrize("name", VARIANTS)
def test_cross_attention_is_what_the_layers_use(name: str) -> None:
    """Rows sum to 1 over real tokens, and the first layer's maps of its values give its output."""
    network, source = build(**VARIANTS[name]), SOURCE.clamp(max=5)
    layer, seen = network.decoder.layers[0].cross_attention, {}
    layer.register_forward_hook(lambda *a: seen.update(context=a[1][1], result=a[2]))
    with torch.no_grad():
        maps = network.cross_attention(source, TARGET)
        assert maps.shape == (3, 3, 2, 4, 5)
        close(maps.sum(-1), torch.ones(3, 3, 2, 4, dtype=torch.float64))
        assert not maps.masked_select((source == 0)[None, :, None, None]).any()
        values = layer.value(seen["context"]).unflatten(-1, (layer.num_kv_heads, 4)).transpose(1, 2)
        values = values.repeat_interleave(2 // layer.num_kv_heads, dim=1)  # (B, H, S, D)
        close(layer.output((maps[0] @ values).transpose(1, 2).flatten(2)), seen["result"])
    assert not network.decoder.layers[1].cross_attention._forward_pre_hooks


@pytest.mark.parametrize("name", VARIANTS)
def test_a_gradient_reaches_every_weight(name: str) -> None:
    network = build(**VARIANTS[name]).train()
    network(SOURCE.clamp(max=5), TARGET).square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # A softmax doesn't feel what is added to all of a query's scores, so a key's bias has no gradient.
    assert [name for name in without if not name.endswith("attention.key.bias")] == []


def test_shared_and_tied_weights_are_one_parameter() -> None:
    apart = build()
    assert apart.head.weight is not apart.target_embedding.weight is not apart.source_embedding.weight
    tied = build(tie_embeddings=True)
    assert tied.head.weight is tied.target_embedding.weight is not tied.source_embedding.weight
    all_one = build({"source_vocab_size": 6}, share_embeddings=True, tie_embeddings=True)
    assert all_one.head.weight is all_one.target_embedding.weight is all_one.source_embedding.weight
    other = fresh({"source_vocab_size": 6}, share_embeddings=True, tie_embeddings=True).double()
    other.load_state_dict(all_one.state_dict())
    source = SOURCE.clamp(max=5)
    close(other(source, TARGET), all_one(source, TARGET))


def test_fresh_weights_have_the_asked_scale() -> None:
    sizes = {"target_vocab_size": 900, "target_length": 400}
    values: dict[str, Any] = {"depth": 8, "decoder_depth": 2, "width": 64, "feed_forward_width": 256}
    network = fresh(sizes, **values, position="learned", embedding_std=0.5, linear_std=0.1)

    def has_std(weight: Tensor, std: float) -> bool:
        return abs(float(weight.detach().std()) / std - 1) < 0.05

    encoder, decoder = network.encoder.layers[3], network.decoder.layers[1]
    assert has_std(network.target_embedding.weight, 0.5)
    assert has_std(network.target_positions.table.weight, 0.5)
    assert has_std(network.head.weight, 0.1)
    assert has_std(encoder.attention.query.weight, 0.1)
    assert has_std(encoder.attention.output.weight, 0.1 / 4)
    assert has_std(decoder.feed_forward.up.weight, 0.1)
    for last in (decoder.self_attention.output, decoder.cross_attention.output, decoder.feed_forward.down):
        assert has_std(last.weight, 0.1 / 2)
    assert has_std(fresh(sizes, **values, linear_std=None).head.weight, 0.5 / 8)


def test_dropout_reaches_the_embeddings_of_both() -> None:
    network = build(dropout=0.5)
    network.dropout.p = 0.999999
    network.train()
    for stack in (network.encoder, network.decoder):
        stack.register_forward_pre_hook(lambda _, given: torch.testing.assert_close(given[0], 0 * given[0]))
    network(SOURCE, TARGET)


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match="vocabularies of 7 and 6 tokens can't share an embedding"):
        build(share_embeddings=True)
    with pytest.raises(ValueError, match="source_length is 0, expected at least 1"):
        build({"source_length": 0})
    with pytest.raises(ValueError, match="position is 'absolute', expected one of"):
        build(position="absolute")
    with pytest.raises(ValueError, match=r"positions 0 … 8 exceed the 8 learned positions"):
        build(position="learned").decode(torch.ones(1, 9, dtype=torch.long), torch.zeros(1, 2, 8).double())

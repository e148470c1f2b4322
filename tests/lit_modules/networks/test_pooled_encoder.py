import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.configs.transformer import PooledTransformerConfig
from lit_modules.networks.pooled_encoder import PooledEncoder, masked_mean
from lit_modules.networks.transformer_conversion import encoder_from_torch

CONFIG = PooledTransformerConfig(depth=2, width=8, num_heads=2, feed_forward_width=12, position="none")
POOLINGS = ["mean", "cls", "attention"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(pooling: str, **values: Any) -> PooledEncoder:
    network = PooledEncoder(replace(CONFIG, pooling=pooling, **values)).double().eval()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.copy_(0.5 * normal(*parameter.shape, seed=number + 1))
    return network


def mask_of(*lengths: int) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("position", ["none", "rotary"])
@pytest.mark.parametrize("implementation", ["fused", "by_hand"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_sequence_in_a_padded_batch_is_the_sequence_alone(pooling: str, implementation: str, position: str):
    network = build(pooling, implementation=implementation, position=position, rotary_base=100.0)
    lengths = [5, 1, 3, 7]
    x = normal(4, 7, 8)
    x[~mask_of(*lengths)] = 1e4  # whatever stands there
    together = network(x, key_mask=mask_of(*lengths))
    for row, length in enumerate(lengths):
        close(together[[row]], network(x[[row], :length]))


def test_mean_pooling_against_a_hand_computation():
    x = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, -100.0]], [[5.0, 7.0], [9.0, 9.0], [4.0, 5.0]]])
    pooled = masked_mean(x, torch.tensor([[True, True, False], [True, True, True]]))
    torch.testing.assert_close(pooled, torch.tensor([[2.0, 4.0], [6.0, 7.0]]), rtol=0, atol=0)
    torch.testing.assert_close(masked_mean(x, None), x.mean(1))
    nothing = masked_mean(x, torch.zeros(2, 3, dtype=torch.bool))
    torch.testing.assert_close(nothing, torch.zeros(2, 2), rtol=0, atol=0)


def test_a_long_mean_of_half_precision_is_summed_up_in_single():
    x = torch.full((1, 4096, 1), 0.1, dtype=torch.bfloat16)
    pooled = masked_mean(x, torch.ones(1, 4096, dtype=torch.bool))
    assert pooled.dtype == torch.bfloat16
    assert pooled.item() == x[0, 0, 0].item()


def test_mean_pools_what_the_encoder_gives():
    network, x, mask = build("mean"), normal(2, 4, 8), mask_of(4, 2)
    hidden = network.encoder(x, key_mask=mask)
    close(network(x, key_mask=mask), torch.stack([hidden[0].mean(0), hidden[1, :2].mean(0)]))


def test_cls_is_the_output_of_a_token_put_in_front():
    network, x, mask = build("cls"), normal(2, 3, 8), mask_of(3, 2)
    seed = network.seed.weight.expand(2, 1, 8)
    longer = torch.cat([seed, x], dim=1)
    hidden = network.encoder(longer, key_mask=mask_of(4, 3))
    close(network(x, key_mask=mask), hidden[:, 0])
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    close(network(x, key_mask=nothing), network.encoder(seed)[:, 0])


def test_attention_pooling_against_the_formula():
    network, x, mask = build("attention"), normal(2, 5, 8), mask_of(5, 3)
    hidden, pool = network.encoder(x, key_mask=mask), network.pool
    question = pool.query(network.seed.weight).view(2, 4)  # heads, width of a head
    expected = []
    for row, length in ((0, 5), (1, 3)):
        keys = pool.key(hidden[row, :length]).view(length, 2, 4)
        values = pool.value(hidden[row, :length]).view(length, 2, 4)
        heads = []
        for head in range(2):
            scores = [float((question[head] @ keys[t, head]).detach()) / math.sqrt(4) for t in range(length)]
            weights = [math.exp(s) / sum(math.exp(other) for other in scores) for s in scores]
            heads.append(sum(w * values[t, head] for t, w in enumerate(weights)))
        expected.append(pool.output(torch.cat(heads)))
    close(network(x, key_mask=mask), torch.stack(expected))
    nothing = network(x, key_mask=torch.zeros(2, 5, dtype=torch.bool))
    close(nothing, pool.output.bias.expand(2, 8))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_the_encoder_is_pytorchs_with_the_same_weights(pooling: str, norm_first: bool):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=norm_first, activation="gelu")
    last = nn.LayerNorm(8) if norm_first else None
    theirs = nn.TransformerEncoder(layer, 2, norm=last, enable_nested_tensor=False).double().eval()
    network = build(pooling, feed_forward="gelu", norm_first=norm_first)
    network.encoder = encoder_from_torch(theirs)
    x, mask = normal(3, 5, 8), mask_of(5, 2, 4)
    with torch.no_grad():
        if pooling == "cls":
            longer = torch.cat([network.seed.weight.expand(3, 1, 8), x], dim=1)
            expected = theirs(longer, src_key_padding_mask=~mask_of(6, 3, 5))[:, 0]
        else:
            hidden = theirs(x, src_key_padding_mask=~mask)
            expected = torch.stack([hidden[i, :n].mean(0) for i, n in enumerate((5, 2, 4))])
        close(network(x, key_mask=mask), expected)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_gradient_reaches_every_weight(pooling: str):
    network = build(pooling).train()
    network(normal(3, 4, 8), key_mask=mask_of(4, 2, 1)).square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # A softmax doesn't feel what is added to all of a query's scores, so a key's bias has no gradient.
    assert [name for name in without if not name.endswith("key.bias")] == []


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_gets_no_gradient(pooling: str):
    x = normal(2, 4, 8).requires_grad_()
    build(pooling)(x, key_mask=mask_of(4, 2)).square().sum().backward()
    assert bool((x.grad[1, 2:] == 0).all())
    assert bool((x.grad[0] != 0).any())


def test_refuses_an_unknown_pooling_and_a_mask_that_does_not_fit():
    with pytest.raises(ValueError, match="pooling is 'max', expected one of 'mean', 'cls', 'attention'"):
        PooledEncoder(replace(CONFIG, pooling="max"))
    with pytest.raises(ValueError, match=r"key_mask has shape \(2, 3\), the keys need \(2, 4\)"):
        build("cls")(normal(2, 4, 8), key_mask=mask_of(3, 1))

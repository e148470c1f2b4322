from typing import Any

import pytest
import torch
import torch.nn as nn

from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.configs.optim import MuonConfig
from lit_modules.layers.norm import LayerNorm, RMSNorm
from lit_modules.layers.positional import LearnedPositions, SinusoidalPositions
from lit_modules.networks.build_transformer_lm import build_transformer_lm
from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.optim.builders import build_optimizer


def build(**values: Any) -> TransformerLM:
    config = LanguageModelConfig(**{"depth": 2, "width": 16, "num_heads": 4} | values)
    return build_transformer_lm(config, vocab_size=11, context_length=8)


def test_every_value_reaches_the_network():
    network = build(
        num_kv_heads=2,
        head_dim=6,
        feed_forward="swiglu",
        feed_forward_width=20,
        norm="rms_norm",
        norm_eps=1e-3,
        position="rotary",
        rotary_base=500.0,
        rotary_layout="adjacent_pairs",
        tie_embeddings=False,
        bias=False,
        qk_norm=True,
        dropout=0.1,
        attention_dropout=0.2,
        implementation="by_hand",
    )
    layer = network.trunk.layers[0]
    attention = layer.attention
    assert (network.vocab_size, network.context_length, len(network.trunk.layers)) == (11, 8, 2)
    assert attention.query.weight.shape == (24, 16)
    assert attention.key.weight.shape == (12, 16)
    assert attention.query.bias is None
    assert attention.query_norm is not None
    assert (attention.dropout, attention.implementation) == (0.2, "by_hand")
    assert (network.trunk.rotary.base, network.trunk.rotary.layout) == (500.0, "adjacent_pairs")
    assert layer.feed_forward.gate.weight.shape == (20, 16)
    assert layer.feed_forward.output_dropout.p == network.dropout.p == 0.1
    assert isinstance(network.trunk.final_norm, RMSNorm)
    assert layer.attention_norm.eps == 1e-3
    assert network.positions is None
    assert network.head.weight is not network.embedding.weight


@pytest.mark.parametrize(
    ("position", "kind"),
    [("learned", LearnedPositions), ("sinusoidal", SinusoidalPositions), ("none", type(None))],
)
def test_positions_that_are_added(position: str, kind: type):
    network = build(position=position)
    assert isinstance(network.positions, kind)
    assert network.trunk.rotary is None
    assert isinstance(network.trunk.final_norm, LayerNorm)


def test_post_norm_has_no_last_norm():
    assert isinstance(build(norm_first=False).trunk.final_norm, nn.Identity)


@pytest.mark.parametrize(
    ("kind", "width", "expected"), [("gelu", 24, 96), ("swiglu", 24, 64), ("swiglu", 96, 256)]
)
def test_default_hidden_width(kind: str, width: int, expected: int):
    assert build(feed_forward=kind, width=width).trunk.layers[0].feed_forward.up.weight.shape[0] == expected


def test_fresh_weights_follow_the_config():
    network = build(output_init="zero", tie_embeddings=False, zero_head=True, embedding_std=3.0)
    assert not network.trunk.layers[1].feed_forward.down.weight.any()
    assert not network.head.weight.any()
    assert 2 < float(network.embedding.weight.detach().std()) < 4
    torch.manual_seed(0)
    assert float(build(linear_std=5.0).trunk.layers[0].attention.key.weight.detach().std()) > 4


@pytest.mark.parametrize("tied", [True, False])
def test_muon_takes_the_hidden_matrices_alone(tied: bool):
    network = build(tie_embeddings=tied, qk_norm=True)
    names = {id(p): name for name, p in network.named_parameters()}
    groups = build_optimizer(network, MuonConfig()).param_groups
    muon = {names[id(p)] for group in groups if group["rule"] == "muon" for p in group["params"]}
    assert muon == {name for name, p in network.trunk.named_parameters(prefix="trunk") if p.ndim == 2}
    assert sum(len(group["params"]) for group in groups) == len(names)

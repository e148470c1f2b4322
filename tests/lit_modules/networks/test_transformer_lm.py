import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.configs.optim import MuonConfig
from lit_modules.layers.norm import LayerNorm, RMSNorm
from lit_modules.layers.positional import LearnedPositions, SinusoidalPositions
from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.optim.optimizers import build_optimizer

GPT2 = LanguageModelConfig(depth=2, width=8, num_heads=4, feed_forward_width=12)
LLAMA = replace(
    GPT2,
    num_kv_heads=2,
    norm="rms_norm",
    feed_forward="swiglu",
    bias=False,
    position="rotary",
    rotary_base=100.0,
    qk_norm=True,
)
KINDS = {"gpt2": GPT2, "llama": LLAMA, "sinusoidal": replace(GPT2, position="sinusoidal")}


def fresh(config: LanguageModelConfig, **values: Any) -> TransformerLM:
    return TransformerLM(replace(config, **values), vocab_size=11, context_length=9)


def build(kind: str = "llama", *, tied: bool = True) -> TransformerLM:
    network = fresh(KINDS[kind], tie_embeddings=tied)
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            generator = torch.Generator().manual_seed(number)
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return network.double().eval()


def tokens(*shape: int) -> Tensor:
    return torch.randint(11, shape, generator=torch.Generator().manual_seed(0))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_changes_the_logits_from_its_place_on(kind: str):
    network, x = build(kind), tokens(1, 7)
    changed = x.clone()
    changed[0, 4] = (x[0, 4] + 1) % 11
    before, after = network(x), network(changed)
    close(after[:, :4], before[:, :4])
    assert ((after - before)[:, 4:].abs().amax(-1) > 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [[7], [1] * 7, [4, 1, 2]])
@torch.inference_mode()
def test_cached_equals_uncached(kind: str, pieces: list[int]):
    network, x = build(kind), tokens(2, 7)
    cache = network.make_cache(7)
    close(torch.cat([network(piece, cache=cache) for piece in x.split(pieces, dim=1)], dim=1), network(x))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_left_padded_prompt_equals_it_alone_and_goes_on_so(kind: str):
    network, long, short = build(kind), tokens(1, 6), tokens(1, 4).flip(1)
    together = torch.zeros(2, 5, dtype=torch.long)
    together[0], together[1, 2:] = long[0, :5], short[0, :3]
    key_mask = torch.tensor([[True] * 5, [False] * 2 + [True] * 3])
    close(network(together, key_mask=key_mask)[1, 2:], network(short[:, :3])[0])
    cache = network.make_cache(6)
    network(together, key_mask=key_mask, cache=cache)
    step = network(torch.stack([long[0, 5:], short[0, 3:]]), cache=cache)
    close(step[0], network(long)[0, -1:])
    close(step[1], network(short)[0, -1:])


def test_the_logits_are_the_published_formula():
    """GPT-2 written out: embeddings, the trunk (tested by itself), a tied output."""
    network, x = build("gpt2"), tokens(2, 5)
    hidden = network.embedding.weight[x] + network.positions.table.weight[:5]
    close(network(x), network.trunk(hidden) @ network.embedding.weight.T)


def test_sinusoidal_positions_meet_scaled_embeddings():
    network, x = build("sinusoidal"), tokens(1, 3)
    states: list[Tensor] = []
    network(x, hidden_states=states)
    place = torch.tensor([math.sin(2.0), math.cos(2.0)], dtype=torch.float64)
    close(states[0][0, 2, :2], math.sqrt(8) * network.embedding.weight[x[0, 2], :2] + place)
    assert len(states) == 3


def test_last_only_and_explicit_positions():
    network, x = build("gpt2"), tokens(2, 5)
    close(network(x, last_only=True), network(x)[:, -1:])
    close(network(x, positions=torch.arange(5)), network(x))
    assert not torch.allclose(network(x, positions=torch.arange(2, 7)), network(x))


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_stay_one_parameter(tied: bool):
    network = build(tied=tied)
    again = copy.deepcopy(network).float()
    assert (again.head.weight is again.embedding.weight) == tied
    assert ("head.weight" in dict(again.named_parameters())) != tied
    other = fresh(LLAMA, tie_embeddings=tied).double()
    other.load_state_dict(network.state_dict())
    close(other(tokens(1, 4)), network(tokens(1, 4)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_gradient_reaches_every_weight(kind: str, tied: bool):
    network = fresh(KINDS[kind], tie_embeddings=tied)
    network(tokens(2, 9)).square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # A softmax doesn't feel what is added to all of a query's scores, so a key's bias has no gradient.
    assert [name for name in without if not name.endswith("attention.key.bias")] == []


def test_fresh_weights_have_the_asked_scale():
    config = replace(
        GPT2,
        depth=8,
        width=64,
        feed_forward_width=256,
        tie_embeddings=False,
        embedding_std=0.5,
        linear_std=None,
    )
    torch.manual_seed(0)
    network = TransformerLM(config, vocab_size=500, context_length=200)

    def has_std(weight: Tensor, std: float) -> bool:
        return (
            abs(float(weight.detach().std()) / std - 1) < 0.05
            and abs(float(weight.detach().mean())) < 0.05 * std
        )

    layer = network.trunk.layers[3]
    assert has_std(network.embedding.weight, 0.5)
    assert has_std(network.positions.table.weight, 0.5)
    assert has_std(layer.attention.query.weight, 0.5 / 8)
    assert has_std(layer.feed_forward.up.weight, 0.5 / 8)
    assert has_std(layer.attention.output.weight, 0.5 / 8 / 4)
    assert has_std(layer.feed_forward.down.weight, 0.5 / 16 / 4)
    assert has_std(network.head.weight, 0.5 / 8)
    assert not layer.feed_forward.up.bias.any()
    assert bool((layer.attention_norm.weight == 1).all())
    network = TransformerLM(replace(config, linear_std=0.1), vocab_size=500, context_length=200)
    assert has_std(network.trunk.layers[3].feed_forward.down.weight, 0.1 / 4)


def test_zero_branches_and_head_score_every_token_alike():
    network = fresh(LLAMA, tie_embeddings=False, output_init="zero", zero_head=True).double()
    x = tokens(2, 5)
    assert not network(x).any()
    states: list[Tensor] = []
    network(x, hidden_states=states)
    close(states[-1], states[0])


def test_a_batch_of_prompts_of_length_one():
    assert build()(tokens(3, 1)).shape == (3, 1, 11)


def test_beyond_learned_positions():
    with pytest.raises(ValueError, match=r"positions 0 … 9 exceed the 9"):
        build("gpt2")(tokens(1, 10))
    assert build("llama")(tokens(1, 10)).shape == (1, 10, 11)


@pytest.mark.parametrize("name", ["vocab_size", "context_length"])
def test_sizes_below_one_are_refused(name: str):
    sizes = {"vocab_size": 5, "context_length": 5} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0, expected at least 1"):
        TransformerLM(GPT2, **sizes)


def small(**values: Any) -> TransformerLM:
    return fresh(LanguageModelConfig(**{"depth": 2, "width": 16, "num_heads": 4} | values))


def test_every_value_reaches_the_network():
    network = small(
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
        hidden_dropout=0.3,
        window=5,
        norm_bias=True,
        norm_partial=0.5,
        attention_dropout=0.2,
        implementation="by_hand",
    )
    layer = network.trunk.layers[0]
    attention = layer.attention
    assert (network.vocab_size, network.context_length, len(network.trunk.layers)) == (11, 9, 2)
    assert attention.query.weight.shape == (24, 16)
    assert attention.key.weight.shape == (12, 16)
    assert attention.query.bias is None
    assert attention.query_norm is not None
    assert (attention.dropout, attention.implementation, attention.window) == (0.2, "by_hand", 5)
    assert (network.trunk.rotary.base, network.trunk.rotary.layout) == (500.0, "adjacent_pairs")
    assert layer.feed_forward.gate.weight.shape == (20, 16)
    assert layer.feed_forward.output_dropout.p == network.dropout.p == 0.1
    assert isinstance(network.trunk.final_norm, RMSNorm)
    assert layer.feed_forward.dropout.p == 0.3
    assert (layer.attention_norm.eps, layer.attention_norm.num_measured) == (1e-3, 8)
    assert layer.attention_norm.bias is not None
    assert network.positions is None
    assert network.head.weight is not network.embedding.weight


@pytest.mark.parametrize(
    ("position", "kind"),
    [("learned", LearnedPositions), ("sinusoidal", SinusoidalPositions), ("none", type(None))],
)
def test_positions_that_are_added(position: str, kind: type):
    network = small(position=position)
    assert isinstance(network.positions, kind)
    assert network.trunk.rotary is None
    assert isinstance(network.trunk.final_norm, LayerNorm)


def test_post_norm_has_no_last_norm():
    assert isinstance(small(norm_first=False).trunk.final_norm, nn.Identity)


@pytest.mark.parametrize(
    ("kind", "width", "expected"), [("gelu", 24, 96), ("swiglu", 24, 64), ("swiglu", 96, 256)]
)
def test_default_hidden_width(kind: str, width: int, expected: int):
    assert small(feed_forward=kind, width=width).trunk.layers[0].feed_forward.up.weight.shape[0] == expected


def test_fresh_weights_follow_the_config():
    network = small(output_init="zero", tie_embeddings=False, zero_head=True, embedding_std=3.0)
    assert not network.trunk.layers[1].feed_forward.down.weight.any()
    assert not network.head.weight.any()
    assert 2 < float(network.embedding.weight.detach().std()) < 4
    torch.manual_seed(0)
    assert float(small(linear_std=5.0).trunk.layers[0].attention.key.weight.detach().std()) > 4


@pytest.mark.parametrize("tied", [True, False])
def test_muon_takes_the_hidden_matrices_alone(tied: bool):
    network = small(tie_embeddings=tied, qk_norm=True)
    names = {id(p): name for name, p in network.named_parameters()}
    groups = build_optimizer(network, MuonConfig()).param_groups
    muon = {names[id(p)] for group in groups if group["rule"] == "muon" for p in group["params"]}
    assert muon == {name for name, p in network.trunk.named_parameters(prefix="trunk") if p.ndim == 2}
    assert sum(len(group["params"]) for group in groups) == len(names)

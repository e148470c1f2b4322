import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lit_modules.layers.transformer_layer import TransformerOptions
from lit_modules.networks.transformer_lm import TransformerLM

GPT2 = TransformerOptions(width=8, num_heads=4, feed_forward_width=12)
LLAMA = replace(
    GPT2, num_kv_heads=2, norm="rms_norm", feed_forward="swiglu", bias=False, rotary_base=100.0, qk_norm=True
)
KINDS = {"gpt2": (GPT2, "learned"), "llama": (LLAMA, "none"), "sinusoidal": (GPT2, "sinusoidal")}


def build(kind: str = "llama", *, tied: bool = True, depth: int = 2) -> TransformerLM:
    options, positions = KINDS[kind]
    network = TransformerLM(
        options, depth=depth, vocab_size=11, context_length=9, positions=positions, tie_embeddings=tied
    )
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
    fresh = build(tied=tied, depth=2)
    fresh.initialise()
    fresh.load_state_dict(network.state_dict())
    close(fresh(tokens(1, 4)), network(tokens(1, 4)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_gradient_reaches_every_weight(kind: str, tied: bool):
    network = build(kind, tied=tied)
    network.initialise()
    network.train()(tokens(2, 9)).square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # A softmax doesn't feel what is added to all of a query's scores, so a key's bias has no gradient.
    assert [name for name in without if not name.endswith("attention.key.bias")] == []


def test_fresh_weights_have_the_asked_scale():
    options = replace(GPT2, width=64, feed_forward_width=256)
    network = TransformerLM(
        options, depth=8, vocab_size=500, context_length=200, positions="learned", tie_embeddings=False
    )
    network.initialise(embedding_std=0.5, linear_std=None)

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
    network.initialise(linear_std=0.1)
    assert has_std(layer.feed_forward.down.weight, 0.1 / 4)


def test_zero_branches_and_head_score_every_token_alike():
    network = build("llama", tied=False)
    network.initialise(output_init="zero", zero_head=True)
    x = tokens(2, 5)
    assert not network(x).any()
    states: list[Tensor] = []
    network(x, hidden_states=states)
    close(states[-1], states[0])


def test_a_batch_of_prompts_of_length_one():
    assert build()(tokens(3, 1)).shape == (3, 1, 11)


def test_beyond_learned_positions():
    with pytest.raises(ValueError, match=r"positions 0 … 9 asked of 9"):
        build("gpt2")(tokens(1, 10))
    assert build("llama")(tokens(1, 10)).shape == (1, 10, 11)


@pytest.mark.parametrize("name", ["vocab_size", "context_length"])
def test_sizes_below_one_are_refused(name: str):
    sizes = {"vocab_size": 5, "context_length": 5} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0, expected at least 1"):
        TransformerLM(GPT2, depth=1, **sizes)

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn as nn
from torch import Tensor

from lit_modules.configs.transformer import TransformerConfig
from lit_modules.layers.norm import RMSNorm
from lit_modules.layers.transformer_stack import Decoder, Encoder

CONFIG = TransformerConfig(
    depth=2,
    width=8,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_width=12,
    norm="rms_norm",
    position="rotary",
    rotary_base=100.0,
    qk_norm=True,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomised(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(0.5 * normal(*parameter.shape, seed=number + 1))
    return module.double().eval()


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_cached_encoder_equals_uncached_however_tokens_arrive():
    trunk = randomised(Encoder(replace(CONFIG, depth=3), is_causal=True))
    x = normal(2, 6, 8)
    at_once = trunk(x)
    for pieces in ([1] * 6, [4, 2], [1, 5]):
        cache = trunk.make_cache(6)
        close(torch.cat([trunk(piece, cache=cache) for piece in x.split(pieces, dim=1)], dim=1), at_once)


@pytest.mark.parametrize("side", ["left", "right"])
def test_cached_rows_of_different_lengths_equal_each_alone(side: str):
    trunk = randomised(Encoder(CONFIG, is_causal=True))
    rows = [normal(1, 7, 8, seed=1), normal(1, 4, 8, seed=2)]  # prompts of 5 and 2 tokens, then 2 more each
    prompt, key_mask = torch.ones(2, 5, 8, dtype=torch.float64), torch.ones(2, 5, dtype=torch.bool)
    place = slice(3, 5) if side == "left" else slice(0, 2)
    prompt[0], prompt[1, place] = rows[0][0, :5], rows[1][0, :2]
    key_mask[1] = False
    key_mask[1, place] = True
    cache = trunk.make_cache(7)
    outputs = [trunk(prompt, key_mask=key_mask, cache=cache)]
    for step in range(2):
        outputs.append(trunk(torch.cat([rows[0][:, [5 + step]], rows[1][:, [2 + step]]]), cache=cache))
    close(torch.cat([outputs[0][0], outputs[1][0], outputs[2][0]]), trunk(rows[0])[0])
    close(torch.cat([outputs[0][1, place], outputs[1][1], outputs[2][1]]), trunk(rows[1])[0])
    close(trunk(prompt, key_mask=key_mask)[1, place], trunk(rows[1][:, :2])[0])


def test_explicit_positions_reach_the_rotation():
    trunk = randomised(Encoder(CONFIG, is_causal=True))
    x = normal(2, 4, 8)
    close(trunk(x, positions=torch.arange(50, 54)), trunk(x))
    spread = torch.tensor([[0, 1, 2, 3], [0, 10, 20, 30]])
    output = trunk(x, positions=spread)
    close(output[0], trunk(x)[0])
    assert not torch.allclose(output[1], trunk(x)[1])


def test_a_mask_reaches_every_layer():
    """Two groups of tokens that can't see each other are two sequences."""
    stack = randomised(Encoder(replace(CONFIG, position="none", depth=3)))
    x, group = normal(2, 5, 8), torch.tensor([0, 0, 1, 1, 1])
    output = stack(x, mask=group[:, None] == group)
    close(output, torch.cat([stack(x[:, :2]), stack(x[:, 2:])], dim=1))


def test_hidden_states_of_every_layer_can_be_read_and_changed():
    trunk = randomised(Encoder(replace(CONFIG, depth=3), is_causal=True))
    x, states = normal(2, 4, 8), []
    output = trunk(x, hidden_states=states)
    assert len(states) == 4
    assert states[0] is x
    close(trunk.final_norm(states[3]), output)
    close(trunk.layers[1](states[1], rotation=trunk.rotary(torch.arange(4), dtype=x.dtype)), states[2])

    shift = normal(2, 1, 8, seed=5)
    with trunk.layers[0].register_forward_hook(lambda module, args, result: result + shift):
        steered: list[Tensor] = []
        changed = trunk(x, hidden_states=steered)
    close(steered[1], states[1] + shift)
    assert not torch.allclose(changed, output)
    close(trunk(x), output)


@pytest.mark.parametrize(("norm_first", "final_norm", "expected"), [(True, None, True), (False, None, False)])
@pytest.mark.parametrize("kind", [Encoder, Decoder])
def test_a_last_norm_follows_pre_norm_layers(
    kind: type, norm_first: bool, final_norm: bool | None, expected: bool
):
    stack = kind(replace(CONFIG, norm_first=norm_first))
    assert isinstance(stack.final_norm, RMSNorm) == expected
    other = kind(replace(CONFIG, norm_first=norm_first), final_norm=not expected)
    assert isinstance(other.final_norm, nn.Identity) == expected


def test_cached_decoder_equals_teacher_forcing_and_projects_the_context_once():
    decoder = randomised(Decoder(CONFIG))
    x, context = normal(2, 5, 8), normal(2, 3, 8, seed=1)
    context_mask = torch.tensor([[True, True, True], [True, False, False]])
    at_once = decoder(x, context, context_mask=context_mask)
    cache = decoder.make_cache(5)
    outputs = [decoder(x[:, :2], context, context_mask=context_mask, cache=cache)]
    calls = []
    with decoder.layers[1].cross_attention.key.register_forward_hook(lambda *a: calls.append(a)):
        outputs += [decoder(x[:, [t]], cache=cache) for t in (2, 3, 4)]
    close(torch.cat(outputs, dim=1), at_once)
    assert not calls


def test_reordered_rows_go_on_as_their_parents():
    """Beam search: hypotheses change rows between steps, and the number of rows changes."""
    decoder = randomised(Decoder(CONFIG))
    x, context, last = normal(2, 3, 8), normal(2, 4, 8, seed=1), normal(4, 1, 8, seed=2)
    rows = torch.tensor([1, 0, 1, 1])
    cache = decoder.make_cache(4)
    decoder(x, context, cache=cache)
    for layer_cache in cache:
        layer_cache.reorder(rows)
    full = decoder(torch.cat([x[rows], last], dim=1), context[rows])
    close(decoder(last, cache=cache), full[:, -1:])


@pytest.mark.parametrize("length", [1, 4])
def test_padding_of_target_and_context_changes_nothing(length: int):
    decoder = randomised(Decoder(CONFIG))
    x, context = normal(1, length, 8), normal(1, 3, 8, seed=1)
    padded_x = torch.cat([x, torch.full((1, 2, 8), 100.0)], dim=1)
    padded_context = torch.cat([torch.full((1, 4, 8), 100.0), context], dim=1)
    key_mask = torch.tensor([[True] * length + [False] * 2])
    context_mask = torch.tensor([[False] * 4 + [True] * 3])
    together = decoder(padded_x, padded_context, key_mask=key_mask, context_mask=context_mask)
    close(together[:, :length], decoder(x, context))


def test_decoder_hidden_states():
    decoder, states = randomised(Decoder(CONFIG)), []
    x = normal(1, 3, 8)
    output = decoder(x, normal(1, 4, 8, seed=1), hidden_states=states)
    assert len(states) == 3
    assert states[0] is x
    close(decoder.final_norm(states[2]), output)


def test_layers_share_one_rotation_and_add_no_weights_for_it():
    trunk = Encoder(replace(CONFIG, depth=3))
    assert all(layer.attention.rotary is trunk.rotary for layer in trunk.layers)
    assert not any("rotary" in name for name in trunk.state_dict())

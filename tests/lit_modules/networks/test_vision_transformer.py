import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.configs.image_classifier import VisionTransformerConfig
from lit_modules.configs.optim import MuonConfig
from lit_modules.layers.positional import LearnedPositions
from lit_modules.networks.vision_transformer import GridPositions, VisionTransformer
from lit_modules.optim.optimizers import build_optimizer

CONFIG = VisionTransformerConfig(depth=1, width=8, num_heads=2, feed_forward_width=12, patch_size=3)


def build(image_shape: tuple[int, ...] = (2, 6, 9), **values) -> VisionTransformer:
    torch.manual_seed(0)
    config = replace(CONFIG, **values)
    return VisionTransformer(config, image_shape=image_shape, num_classes=4).double().eval()


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 2, 6, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
def test_a_patch_is_one_linear_map_and_patches_come_row_by_row(position: str):
    network, x = build(position=position), images()
    weight, bias = network.patches.weight.flatten(1), network.patches.bias
    tokens = []
    for row, column in itertools.product(range(2), range(3)):
        patch = x[:, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
        tokens.append(F.linear(patch.flatten(1), weight, bias))
    expected = torch.stack(tokens, dim=1)
    if position == "learned":
        expected = expected + network.positions.table.weight
    elif position == "sinusoidal":
        expected = expected + network.positions(2, 3, device=x.device, dtype=x.dtype)
    features = network.trunk(expected)
    torch.testing.assert_close(network.features(x), features)
    torch.testing.assert_close(network(x), F.linear(features, network.head.weight, network.head.bias))


def test_grid_positions_tell_the_row_then_the_column():
    positions = GridPositions(8)(3, 5, device=torch.device("cpu"), dtype=torch.float64)
    assert positions.shape == (15, 8)
    for row, column in itertools.product(range(3), range(5)):
        expected = []
        for place in (row, column):
            for pair in range(2):
                angle = place / 10_000 ** (2 * pair / 4)
                expected += [math.sin(angle), math.cos(angle)]
        torch.testing.assert_close(
            positions[5 * row + column], torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12
        )


def test_without_positions_the_order_of_patches_does_not_matter():
    x = images()
    swapped = torch.cat([x[..., 3:6], x[..., :3], x[..., 6:]], dim=-1)
    same = build(position="none")
    torch.testing.assert_close(same(x), same(swapped))
    for position in ("learned", "sinusoidal"):
        assert not torch.allclose(build(position=position)(x), build(position=position)(swapped))


@pytest.mark.parametrize("pooling", ["mean", "cls", "attention"])
def test_any_pooling_and_memory_layout_and_a_gradient_for_every_weight(pooling: str):
    network, x = build(pooling=pooling, depth=2), images()
    logits = network(x)
    assert logits.shape == (3, 4)
    torch.testing.assert_close(network(x[1:2]), logits[1:2])
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x.contiguous(memory_format=torch.channels_last)), logits)
    F.cross_entropy(network.train()(x), torch.arange(3)).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in idle if not name.endswith("key.bias")] == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch_size": 4}, "patch_size 4 doesn't divide images of 6×9"),
        ({"image_shape": (6, 9)}, r"image_shape is \(6, 9\)"),
        ({"position": "absolute"}, "position is 'absolute'"),
    ],
)
def test_refuses_what_cannot_be_built(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build(**values)


def test_an_odd_width_has_no_two_halves():
    with pytest.raises(ValueError, match="width 7 is odd"):
        GridPositions(7)


@pytest.mark.parametrize(
    ("position", "kind"),
    [
        ("learned", LearnedPositions),
        ("sinusoidal", GridPositions),
        ("none", type(None)),
        ("rotary", type(None)),
    ],
)
def test_positions(position: str, kind: type):
    network = build(position=position)
    assert isinstance(network.positions, kind)
    assert (network.trunk.encoder.rotary is not None) == (position == "rotary")


def test_every_value_reaches_the_network():
    network = build(
        depth=3,
        position="learned",
        pooling="attention",
        dropout=0.2,
        hidden_dropout=0.1,
        window=2,
        output_init="zero",
        embedding_std=3.0,
    )
    layers = network.trunk.encoder.layers
    assert len(layers) == 3
    assert network.trunk.pooling == "attention"
    assert (network.dropout.p, layers[0].feed_forward.dropout.p, layers[0].attention.window) == (0.2, 0.1, 2)
    assert not layers[1].feed_forward.down.weight.any()
    assert network.trunk.pool.output.weight.any()  # or no gradient reaches the layers
    assert float(network.positions.table.weight.detach().std()) > 2
    assert network.grid == (2, 3)
    assert network.patches.weight.shape == (8, 2, 3, 3)
    assert network.head.weight.shape == (4, 8)


@pytest.mark.parametrize("pooling", ["cls", "attention"])
def test_muon_leaves_the_learned_token_and_the_head_alone(pooling: str):
    network = build(pooling=pooling, position="learned")
    names = {id(p): name for name, p in network.named_parameters()}
    groups = build_optimizer(network, MuonConfig()).param_groups
    muon = {names[id(p)] for group in groups if group["rule"] == "muon" for p in group["params"]}
    assert not {"head.weight", "trunk.seed.weight", "positions.table.weight", "embedding.weight"} & muon
    assert "trunk.encoder.layers.0.attention.query.weight" in muon

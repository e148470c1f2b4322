import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.layers.transformer_layer import TransformerOptions
from lit_modules.networks.vision_transformer import GridPositions, VisionTransformer

OPTIONS = TransformerOptions(width=8, num_heads=2, feed_forward_width=12)


def build(**values) -> VisionTransformer:
    torch.manual_seed(0)
    arguments = {"depth": 1, "image_shape": (2, 6, 9), "patch_size": 3, "num_classes": 4} | values
    return VisionTransformer(OPTIONS, **arguments).double().eval()


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 2, 6, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "none"])
def test_a_patch_is_one_linear_map_and_patches_come_row_by_row(positions: str):
    network, x = build(positions=positions), images()
    weight, bias = network.patches.weight.flatten(1), network.patches.bias
    tokens = []
    for row, column in itertools.product(range(2), range(3)):
        patch = x[:, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
        tokens.append(F.linear(patch.flatten(1), weight, bias))
    expected = torch.stack(tokens, dim=1)
    if positions == "learned":
        expected = expected + network.positions.table.weight
    elif positions == "sinusoidal":
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
    same = build(positions="none")
    torch.testing.assert_close(same(x), same(swapped))
    for positions in ("learned", "sinusoidal"):
        assert not torch.allclose(build(positions=positions)(x), build(positions=positions)(swapped))


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
        ({"positions": "rotary"}, "positions is 'rotary'"),
    ],
)
def test_refuses_what_cannot_be_built(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build(**values)


def test_an_odd_width_has_no_two_halves():
    with pytest.raises(ValueError, match="width 7 is odd"):
        GridPositions(7)

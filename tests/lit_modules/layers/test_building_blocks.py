"""Oracle: PyTorch's layer of the same name, with the same seed and the same parameters."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lit_modules.layers.building_blocks import BuildingBlocks, building_blocks

IMAGES = (4, 3, 8, 8)
LAYERS: dict[str, tuple[tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "linear": ((3, 5), {}, (4, 2, 3)),
    "embedding": ((7, 5), {}, (4, 2)),
    "conv2d": ((3, 5, 3), {"stride": 2, "padding": 1, "bias": False}, IMAGES),
    "max_pool2d": ((2,), {}, IMAGES),
    "batch_norm1d": ((3,), {}, (4, 3)),
    "batch_norm2d": ((3,), {}, IMAGES),
    "dropout": ((0.4,), {}, (4, 50)),
}


def run(blocks: BuildingBlocks, name: str) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The initial state of a layer, and its output and gradients in training, then in evaluation."""
    arguments, options, shape = LAYERS[name]
    torch.manual_seed(0)
    layer = getattr(blocks, name)(*arguments, **options)
    state = {key: value.clone() for key, value in layer.state_dict().items()}
    layer.double()
    torch.manual_seed(1)
    x = torch.randint(7, shape) if name == "embedding" else torch.randn(shape).double().requires_grad_()
    y = layer(x)
    leaves = [leaf for leaf in (x, *layer.parameters()) if leaf.requires_grad]
    gradients = torch.autograd.grad((y * torch.randn(y.shape).double()).sum(), leaves)
    return state, [y, *gradients, layer.eval()(x), *layer.buffers()]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_by_hand_is_pytorchs(name: str) -> None:
    (state, results), (ours, by_hand) = (run(building_blocks(way), name) for way in ("fused", "by_hand"))
    assert list(ours) == list(state)
    assert all(torch.equal(ours[key], state[key]) for key in state)
    torch.testing.assert_close(by_hand, results, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "tanh"])
def test_an_activation_by_hand_is_pytorchs(name: str) -> None:
    x = torch.cat([torch.linspace(-6, 6, 49), torch.tensor([-1e4, 1e4])]).double()
    theirs, ours = (building_blocks(way).activation(name)(x.clone()) for way in ("fused", "by_hand"))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "tanh"])
def test_an_activation_by_hand_has_the_right_slope(name: str) -> None:
    x = torch.tensor([-3.0, -0.5, 0.0, 0.7, 20.0]).double().requires_grad_()
    slopes = [
        torch.autograd.grad(building_blocks(way).activation(name)(x + 0).sum(), x)[0]
        for way in ("fused", "by_hand")
    ]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-10, atol=1e-10)


def test_autocast_keeps_the_type_of_a_product() -> None:
    layer = building_blocks("by_hand").linear(3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 3)).dtype == torch.bfloat16


def test_each_kind_of_attention_has_its_layers_and_other_names_are_refused() -> None:
    assert building_blocks("tiled") is building_blocks("by_hand")
    assert building_blocks("triton") is building_blocks("fused")
    with pytest.raises(ValueError, match="implementation is 'fast', expected one of 'fused', 'by_hand'"):
        building_blocks("fast")

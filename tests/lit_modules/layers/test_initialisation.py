from dataclasses import replace

import pytest
import torch
import torch.nn as nn

from lit_modules.configs.transformer import TransformerConfig
from lit_modules.layers.initialisation import draw_weights, matrix_std
from lit_modules.layers.transformer_stack import Encoder

CONFIG = TransformerConfig(
    depth=8, width=128, num_heads=2, feed_forward_width=512, embedding_std=0.5, linear_std=None
)


def std(parameter: torch.Tensor) -> float:
    return float(parameter.detach().std())


def test_scales_by_kind_and_place():
    torch.manual_seed(0)
    network = nn.ModuleDict(
        {"stack": Encoder(CONFIG), "words": nn.Embedding(50, 128), "own": nn.Linear(128, 128)}
    )
    before = network["own"].weight.clone()
    draw_weights(network, CONFIG, kept=(network["own"],))
    layer = network["stack"].layers[3]
    assert std(network["words"].weight) == pytest.approx(0.5, rel=0.05)
    assert std(layer.attention.query.weight) == pytest.approx(0.5 * 128**-0.5, rel=0.05)
    assert std(layer.attention.output.weight) == pytest.approx(0.5 * 128**-0.5 / 4, rel=0.05)
    assert std(layer.feed_forward.down.weight) == pytest.approx(0.5 * 512**-0.5 / 4, rel=0.05)
    assert not layer.feed_forward.up.bias.any()
    assert bool((layer.attention_norm.weight == 1).all())
    assert torch.equal(network["own"].weight, before)


def test_zero_branches_make_the_stack_the_identity():
    torch.manual_seed(0)
    config = replace(CONFIG, output_init="zero")
    stack = Encoder(config, final_norm=False)
    draw_weights(stack, config)
    x = torch.randn(2, 3, 128)
    torch.testing.assert_close(stack(x), x, rtol=0, atol=0)


def test_the_scale_of_a_matrix():
    layer = nn.Linear(16, 3)
    assert (matrix_std(layer, CONFIG), matrix_std(layer, replace(CONFIG, linear_std=0.7))) == (0.125, 0.7)


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match="output_init is 'small'"):
        draw_weights(nn.Linear(2, 2), replace(CONFIG, output_init="small"))

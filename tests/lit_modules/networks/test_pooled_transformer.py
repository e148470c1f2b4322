from typing import Any

import pytest

from lit_modules.configs.image_classifier import VisionTransformerConfig
from lit_modules.configs.optim import MuonConfig
from lit_modules.configs.text_classifier import TextClassifierConfig
from lit_modules.layers.positional import LearnedPositions, SinusoidalPositions
from lit_modules.networks.pooled_transformer import build_text_encoder, build_vision_transformer
from lit_modules.networks.vision_transformer import GridPositions
from lit_modules.optim.builders import build_optimizer

SMALL: dict[str, Any] = {"depth": 3, "width": 16, "num_heads": 2}


def image_network(**values: Any):
    config = VisionTransformerConfig(patch_size=2, **SMALL, **values)
    return build_vision_transformer(config, image_shape=(1, 8, 8), num_classes=5)


def text_network(**values: Any):
    config = TextClassifierConfig(**SMALL, **values)
    return build_text_encoder(config, vocab_size=11, context_length=7, num_classes=5)


@pytest.mark.parametrize(
    ("position", "of_images", "of_texts"),
    [
        ("learned", LearnedPositions, LearnedPositions),
        ("sinusoidal", GridPositions, SinusoidalPositions),
        ("none", type(None), type(None)),
        ("rotary", type(None), type(None)),
    ],
)
def test_positions(position: str, of_images: type, of_texts: type):
    for network, kind in (
        (image_network(position=position), of_images),
        (text_network(position=position), of_texts),
    ):
        assert isinstance(network.positions, kind)
        assert (network.trunk.encoder.rotary is not None) == (position == "rotary")


@pytest.mark.parametrize("build", [image_network, text_network])
def test_values_reach_the_network(build: Any):
    network = build(pooling="attention", dropout=0.2, output_init="zero", embedding_std=3.0)
    assert len(network.trunk.encoder.layers) == 3
    assert network.trunk.pooling == "attention"
    assert network.dropout.p == 0.2
    assert not network.trunk.encoder.layers[1].feed_forward.down.weight.any()
    assert network.trunk.pool.output.weight.any()  # or nothing would ever reach the head
    assert float(network.positions.table.weight.detach().std()) > 2
    assert network.head.weight.shape == (5, 16)


def test_values_of_a_text():
    network = text_network(token_dropout=0.3, feature_dropout=0.4)
    assert (network.token_dropout, network.feature_dropout.p) == (0.3, 0.4)
    assert network.embedding.weight.shape == (11, 16)
    assert network.positions.table.weight.shape == (7, 16)


def test_values_of_an_image():
    network = image_network()
    assert network.grid == (4, 4)
    assert network.patches.weight.shape == (16, 1, 2, 2)


@pytest.mark.parametrize("build", [image_network, text_network])
@pytest.mark.parametrize("pooling", ["cls", "attention"])
def test_muon_leaves_the_learned_token_and_the_head_alone(build: Any, pooling: str):
    network = build(pooling=pooling)
    names = {id(p): name for name, p in network.named_parameters()}
    groups = build_optimizer(network, MuonConfig()).param_groups
    muon = {names[id(p)] for group in groups if group["rule"] == "muon" for p in group["params"]}
    assert not {"head.weight", "trunk.seed.weight", "positions.table.weight", "embedding.weight"} & muon
    assert "trunk.encoder.layers.0.attention.query.weight" in muon

import dataclasses

import pytest

from lit_modules.configs.transformer import TransformerConfig
from lit_modules.networks.transformer_options import transformer_options


def test_every_shared_value_reaches_the_layers():
    values = {
        "width": 30,
        "num_heads": 6,
        "num_kv_heads": 2,
        "head_dim": 4,
        "feed_forward": "swiglu",
        "feed_forward_width": 20,
        "norm": "rms_norm",
        "norm_eps": 1e-3,
        "norm_first": False,
        "bias": False,
        "dropout": 0.1,
        "attention_dropout": 0.2,
        "qk_norm": True,
        "rotary_base": 500.0,
        "rotary_layout": "adjacent_pairs",
        "implementation": "by_hand",
    }
    options = transformer_options(TransformerConfig(position="rotary", **values))
    assert {name: getattr(options, name) for name in values} == values
    default = dataclasses.asdict(TransformerConfig())
    assert all(default[name] != value for name, value in values.items())


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
def test_only_rotary_positions_rotate(position: str):
    assert transformer_options(TransformerConfig(position=position)).build_rotary() is None


@pytest.mark.parametrize(
    ("kind", "width", "expected"), [("gelu", 24, 96), ("swiglu", 24, 64), ("swiglu", 96, 256)]
)
def test_default_hidden_width(kind: str, width: int, expected: int):
    config = TransformerConfig(feed_forward=kind, width=width)
    assert transformer_options(config).feed_forward_width == expected

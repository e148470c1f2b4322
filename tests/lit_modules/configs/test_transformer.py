from typing import Any

import pytest

from lit_modules.configs.transformer import PooledTransformerConfig, TransformerConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_kv_heads": 3}, "num_kv_heads: 3 doesn't divide num_heads 4"),
        ({"width": 30}, "num_heads: 4 doesn't divide width 30"),
        ({"width": 12, "position": "rotary"}, "head_dim 3 is odd"),
        ({"norm_partial": 0.5}, "norm_partial: 0.5 needs norm rms_norm, not layer_norm"),
        (
            {"attention_dropout": 0.1, "implementation": "tiled"},
            "0.1 isn't possible with implementation tiled",
        ),
        ({"attention_dropout": 0.1, "implementation": "triton"}, "isn't possible with implementation triton"),
        ({"head_dim": 129, "implementation": "triton"}, "heads up to 128 wide, but head_dim is 129"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(values: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**values)


def test_a_window_would_hide_tokens_from_a_cls_token():
    with pytest.raises(ValueError, match="pooling: cls with window 3"):
        PooledTransformerConfig(pooling="cls", window=3)


def test_a_head_width_frees_the_width():
    assert TransformerConfig(width=30, head_dim=8, position="rotary").head_dim == 8


@pytest.mark.parametrize(
    ("kind", "width", "expected"), [("gelu", 24, 96), ("swiglu", 24, 64), ("swiglu", 96, 256)]
)
def test_default_hidden_width(kind: Any, width: int, expected: int):
    assert TransformerConfig(feed_forward=kind, width=width).hidden_width == expected

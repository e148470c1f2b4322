from typing import Any

import pytest

from lit_modules.configs.transformer import TransformerConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_kv_heads": 3}, "num_kv_heads: 3 doesn't divide num_heads 4"),
        ({"width": 30}, "num_heads: 4 doesn't divide width 30"),
        ({"width": 12, "position": "rotary"}, "heads of width 3 are odd"),
        ({"attention_dropout": 0.1, "implementation": "tiled"}, "attention_dropout: tiled"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(values: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**values)


def test_a_head_width_frees_the_width():
    assert TransformerConfig(width=30, head_dim=8, position="rotary").head_dim == 8

import pytest

from lit_modules.configs.language_model import LanguageModelConfig


def test_a_tied_head_that_would_be_zero_is_refused():
    with pytest.raises(ValueError, match="zero_head: true with tie_embeddings true"):
        LanguageModelConfig(zero_head=True)


def test_what_any_transformer_refuses_is_refused_here_too():
    with pytest.raises(ValueError, match="num_kv_heads: 3 doesn't divide num_heads 4"):
        LanguageModelConfig(num_kv_heads=3)

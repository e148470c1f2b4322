"""Models and data don't import each other, so that both name the special tokens: the same ones."""

from datamodules.loading import token_rows
from lit_modules.generation import special_tokens


def test_data_and_models_mean_the_same_tokens() -> None:
    for name in ("PAD", "BOS", "EOS"):
        assert getattr(special_tokens, name) == getattr(token_rows, name)
        assert token_rows.SPECIAL[getattr(special_tokens, name)] == f"<{name.lower()}>"

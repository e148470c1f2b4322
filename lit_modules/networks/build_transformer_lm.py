"""The network that a `LanguageModelConfig` describes."""

from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.networks.transformer_options import transformer_options


def build_transformer_lm(
    config: LanguageModelConfig, *, vocab_size: int, context_length: int
) -> TransformerLM:
    """Builds the network with fresh weights.

    Args:
        config: The architecture and how fresh weights are drawn.
        vocab_size: Of the tokenizer.
        context_length: The longest text that the model is meant for.

    Raises:
        ValueError: values that don't fit together.
    """
    network = TransformerLM(
        transformer_options(config),
        depth=config.depth,
        vocab_size=vocab_size,
        context_length=context_length,
        positions="none" if config.position == "rotary" else config.position,
        tie_embeddings=config.tie_embeddings,
    )
    network.initialise(
        embedding_std=config.embedding_std,
        linear_std=config.linear_std,
        output_init=config.output_init,
        zero_head=config.zero_head,
    )
    return network

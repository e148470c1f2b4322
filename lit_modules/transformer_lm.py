"""The network that a `LanguageModelConfig` describes."""

from lit_modules.language_model_config import LanguageModelConfig
from lit_modules.layers.language_model import TransformerLM
from lit_modules.layers.transformer_layer import TransformerOptions

_MULTIPLE = 32  # of a default SwiGLU width: kernels like whole vectors


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


def transformer_options(config: LanguageModelConfig) -> TransformerOptions:
    """What the layers of the described network have in common."""
    return TransformerOptions(
        width=config.width,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        feed_forward=config.feed_forward,
        feed_forward_width=config.feed_forward_width or _default_hidden_width(config),
        norm=config.norm,
        norm_first=config.norm_first,
        norm_eps=config.norm_eps,
        bias=config.bias,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        qk_norm=config.qk_norm,
        rotary_base=config.rotary_base if config.position == "rotary" else None,
        rotary_layout=config.rotary_layout,
        implementation=config.implementation,
    )


def _default_hidden_width(config: LanguageModelConfig) -> int:
    """As many weights as a two-layer MLP of 4 · width has, whichever kind it is."""
    if config.feed_forward != "swiglu":
        return 4 * config.width
    return -(-8 * config.width // (3 * _MULTIPLE)) * _MULTIPLE

"""What the layers of the transformer that a `TransformerConfig` describes have in common."""

from lit_modules.configs.transformer import TransformerConfig
from lit_modules.layers.transformer_layer import TransformerOptions

_MULTIPLE = 32  # of a default SwiGLU width: kernels like whole vectors


def transformer_options(config: TransformerConfig) -> TransformerOptions:
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


def _default_hidden_width(config: TransformerConfig) -> int:
    """As many weights as a two-layer MLP of 4 · width has, whichever kind it is."""
    if config.feed_forward != "swiglu":
        return 4 * config.width
    return -(-8 * config.width // (3 * _MULTIPLE)) * _MULTIPLE

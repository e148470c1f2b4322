"""Layers of a transformer: an encoder layer, and a decoder layer that also attends to a context.

Shape letters: B batch, T tokens, S tokens of the context, W width of the model.
"""

from collections.abc import Callable

import torch.nn as nn
from torch import Tensor

from lit_modules.configs.transformer import NormKind, TransformerConfig
from lit_modules.layers.argument_checks import check_choice
from lit_modules.layers.attention import Attention
from lit_modules.layers.building_blocks import layer_implementation
from lit_modules.layers.feed_forward import FeedForward, SwiGLU
from lit_modules.layers.kv_cache import DecoderLayerCache, KVCache
from lit_modules.layers.norm import LayerNorm, RMSNorm
from lit_modules.layers.positional import RotaryPositions, Rotation


def build_norm(config: TransformerConfig) -> LayerNorm | RMSNorm:
    """Build a norm over W features.

    Raises:
        ValueError: Unknown kind of norm.
    """
    check_choice("norm", config.norm, NormKind)
    if config.norm == "rms_norm":
        return RMSNorm(
            config.width,
            eps=config.norm_eps,
            partial=config.norm_partial,
            bias=bool(config.norm_bias),
            implementation=layer_implementation(config.implementation),
        )
    return LayerNorm(
        config.width,
        eps=config.norm_eps,
        bias=config.bias if config.norm_bias is None else config.norm_bias,
        implementation=layer_implementation(config.implementation),
    )


def build_rotary(config: TransformerConfig) -> RotaryPositions | None:
    """Build the rotary positions that all layers share; None for other kinds of positions."""
    if config.position != "rotary":
        return None
    return RotaryPositions(
        config.head_width,
        base=config.rotary_base,
        layout=config.rotary_layout,
        scaling=config.rotary_scaling,
    )


def build_attention(
    config: TransformerConfig,
    *,
    is_causal: bool = False,
    rotary: RotaryPositions | None = None,
    to_context: bool = False,
) -> Attention:
    """Build the self-attention of a layer; `to_context`, its attention to the output of an encoder."""
    return Attention(
        config.width,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        context_width=config.width if to_context else None,
        bias=config.bias,
        qkv_bias=config.qkv_bias,
        dropout=config.attention_dropout,
        output_dropout=config.dropout,
        qk_norm=config.qk_norm,
        rotary=rotary,
        is_causal=is_causal,
        window=None if to_context else config.window,
        implementation=config.implementation,
    )


def build_feed_forward(config: TransformerConfig) -> FeedForward | SwiGLU:
    """Build the feed-forward network of a layer."""
    if config.feed_forward == "swiglu":
        return SwiGLU(
            config.width,
            config.hidden_width,
            bias=config.has_feed_forward_bias,
            dropout=config.hidden_dropout,
            output_dropout=config.dropout,
            implementation=layer_implementation(config.implementation),
        )
    return FeedForward(
        config.width,
        config.hidden_width,
        activation=config.feed_forward,
        bias=config.has_feed_forward_bias,
        dropout=config.hidden_dropout,
        output_dropout=config.dropout,
        implementation=layer_implementation(config.implementation),
    )


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network, each with a norm and a residual connection.

    With `is_causal=True` it is a layer of a decoder-only language model.

    Args:
        config: The settings that all layers share.
        is_causal: Whether tokens see only earlier tokens and themselves.
        rotary: Rotary positions, shared by the layers.

    Source: Vaswani et al. 2017, figure 1, left; Xiong et al. 2020 for pre-norm.
    """

    def __init__(
        self, config: TransformerConfig, *, is_causal: bool = False, rotary: RotaryPositions | None = None
    ) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.attention = build_attention(config, is_causal=is_causal, rotary=rotary)
        self.attention_norm = build_norm(config)
        self.feed_forward = build_feed_forward(config)
        self.feed_forward_norm = build_norm(config)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        rotation: Rotation | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Map (B, T, W) to (B, T, W); arguments as in `Attention.forward`."""

        def attend(h: Tensor) -> Tensor:
            return self.attention(h, mask=mask, key_mask=key_mask, rotation=rotation, cache=cache)

        x = _residual(x, attend, self.attention_norm, self.norm_first)
        return _residual(x, self.feed_forward, self.feed_forward_norm, self.norm_first)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to a context, then a feed-forward network.

    Args:
        config: The settings that all layers share.
        rotary: Rotary positions of self-attention, shared by the layers.

    Source: Vaswani et al. 2017, figure 1, right.
    """

    def __init__(self, config: TransformerConfig, *, rotary: RotaryPositions | None = None) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.self_attention = build_attention(config, is_causal=True, rotary=rotary)
        self.self_attention_norm = build_norm(config)
        self.cross_attention = build_attention(config, to_context=True)
        self.cross_attention_norm = build_norm(config)
        self.feed_forward = build_feed_forward(config)
        self.feed_forward_norm = build_norm(config)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        key_mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        rotation: Rotation | None = None,
        cache: DecoderLayerCache | None = None,
    ) -> Tensor:
        """Decode T tokens of the target.

        Args:
            x: (B, T, W).
            context: (B, S, W); optional once the cache holds it.
            key_mask: Boolean, (B, T), True = a real token of the target.
            context_mask: Boolean, (B, S), True = a real token of the context.
            rotation: Rotation of the target's positions.
            cache: Cache of both attentions.

        Returns:
            (B, T, W).
        """

        def attend_self(h: Tensor) -> Tensor:
            own = None if cache is None else cache.self_attention
            return self.self_attention(h, key_mask=key_mask, rotation=rotation, cache=own)

        def attend_context(h: Tensor) -> Tensor:
            own = None if cache is None else cache.cross_attention
            return self.cross_attention(h, context, key_mask=context_mask, cache=own)

        x = _residual(x, attend_self, self.self_attention_norm, self.norm_first)
        x = _residual(x, attend_context, self.cross_attention_norm, self.norm_first)
        return _residual(x, self.feed_forward, self.feed_forward_norm, self.norm_first)


def _residual(x: Tensor, branch: Callable[[Tensor], Tensor], norm: nn.Module, norm_first: bool) -> Tensor:
    return x + branch(norm(x)) if norm_first else norm(x + branch(x))

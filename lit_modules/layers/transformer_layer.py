"""One layer of a transformer: an encoder layer, and a decoder layer that also attends a context.

Shape letters: B batch, T tokens, S tokens of the context, W width of the model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch.nn as nn
from torch import Tensor

from lit_modules.layers.argument_checks import AttentionImplementation, LayerImplementation, check_choice
from lit_modules.layers.attention import Attention, head_width
from lit_modules.layers.feed_forward import Activation, FeedForward, SwiGLU
from lit_modules.layers.kv_cache import DecoderLayerCache, KVCache
from lit_modules.layers.norm import LayerNorm, RMSNorm
from lit_modules.layers.positional import RotaryLayout, RotaryPositions, Rotation

Norm = Literal["layer_norm", "rms_norm"]


@dataclass(frozen=True, kw_only=True)
class TransformerOptions:
    """What the layers of a stack have in common. GPT-2's are the defaults.

    Llama's: `norm="rms_norm", feed_forward="swiglu", bias=False, rotary_base=10_000.0`, `num_kv_heads` fewer.

    Args:
        width: W.
        num_heads: Query heads of each attention.
        feed_forward_width: Units of the hidden layer.
        num_kv_heads: Key/value heads; default `num_heads`.
        head_dim: Width of a head; default W / num_heads.
        context_width: Of what a decoder attends; default W.
        feed_forward: An activation for the two-layer MLP, or `swiglu`.
        norm: Which norm.
        norm_first: Pre-norm, x + f(norm(x)); else post-norm, norm(x + f(x)).
        norm_eps: ε of the norms.
        bias: Whether linear layers and layer norms have biases.
        dropout: Of each branch's result.
        hidden_dropout: Of the feed-forward's hidden units; GPT-2 has none.
        attention_dropout: Of attention weights.
        qk_norm: RMS-normalise queries and keys.
        rotary_base: Base of rotary positions in self-attention; None for none.
        rotary_layout: Which channels make a pair.
        window: Of self-attention.
        implementation: `fused` kernels or `by_hand` throughout; `tiled` is by hand with tiled attention.
    """

    width: int
    num_heads: int
    feed_forward_width: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    context_width: int | None = None
    feed_forward: Activation | Literal["swiglu"] = "gelu_tanh"
    norm: Norm = "layer_norm"
    norm_first: bool = True
    norm_eps: float = 1e-5
    bias: bool = True
    dropout: float = 0.0
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    qk_norm: bool = False
    rotary_base: float | None = None
    rotary_layout: RotaryLayout = "half_split"
    window: int | None = None
    implementation: AttentionImplementation = "fused"

    def build_norm(self) -> LayerNorm | RMSNorm:
        """Builds a norm of W features."""
        check_choice("norm", self.norm, Norm)
        if self.norm == "rms_norm":
            return RMSNorm(self.width, eps=self.norm_eps, implementation=self._layer_implementation)
        return LayerNorm(
            self.width, eps=self.norm_eps, bias=self.bias, implementation=self._layer_implementation
        )

    def build_rotary(self) -> RotaryPositions | None:
        """Builds the rotary positions that all layers share, if there are any."""
        if self.rotary_base is None:
            return None
        head_dim = head_width(self.width, self.num_heads) if self.head_dim is None else self.head_dim
        return RotaryPositions(head_dim, base=self.rotary_base, layout=self.rotary_layout)

    def build_self_attention(self, *, is_causal: bool, rotary: RotaryPositions | None) -> Attention:
        """Builds a layer's self-attention."""
        return Attention(
            self.width,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            bias=self.bias,
            dropout=self.attention_dropout,
            output_dropout=self.dropout,
            qk_norm=self.qk_norm,
            rotary=rotary,
            is_causal=is_causal,
            window=self.window,
            implementation=self.implementation,
        )

    def build_cross_attention(self) -> Attention:
        """Builds a decoder layer's attention to the context."""
        return Attention(
            self.width,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            context_width=self.width if self.context_width is None else self.context_width,
            bias=self.bias,
            dropout=self.attention_dropout,
            output_dropout=self.dropout,
            qk_norm=self.qk_norm,
            implementation=self.implementation,
        )

    def build_feed_forward(self) -> FeedForward | SwiGLU:
        """Builds a layer's feed-forward part."""
        if self.feed_forward == "swiglu":
            return SwiGLU(
                self.width,
                self.feed_forward_width,
                bias=self.bias,
                dropout=self.hidden_dropout,
                output_dropout=self.dropout,
                implementation=self._layer_implementation,
            )
        return FeedForward(
            self.width,
            self.feed_forward_width,
            activation=self.feed_forward,
            bias=self.bias,
            dropout=self.hidden_dropout,
            output_dropout=self.dropout,
            implementation=self._layer_implementation,
        )

    @property
    def _layer_implementation(self) -> LayerImplementation:
        return "fused" if self.implementation == "fused" else "by_hand"


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward part, each with a norm and a residual connection.

    With `is_causal=True` it is the layer of a decoder-only language model.

    Args:
        options: What the layers of the stack have in common.
        is_causal: No token sees a later one.
        rotary: The rotary positions, shared by the layers.

    Source: Vaswani et al. 2017, figure 1, left; Xiong et al. 2020 for pre-norm.
    """

    def __init__(
        self, options: TransformerOptions, *, is_causal: bool = False, rotary: RotaryPositions | None = None
    ) -> None:
        super().__init__()
        self.norm_first = options.norm_first
        self.attention = options.build_self_attention(is_causal=is_causal, rotary=rotary)
        self.attention_norm = options.build_norm()
        self.feed_forward = options.build_feed_forward()
        self.feed_forward_norm = options.build_norm()

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        rotation: Rotation | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """(B, T, W) → (B, T, W); arguments as for `Attention`."""

        def attend(h: Tensor) -> Tensor:
            return self.attention(h, mask=mask, key_mask=key_mask, rotation=rotation, cache=cache)

        x = _residual(x, attend, self.attention_norm, self.norm_first)
        return _residual(x, self.feed_forward, self.feed_forward_norm, self.norm_first)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to a context, then a feed-forward part.

    Args:
        options: What the layers of the stack have in common.
        rotary: The rotary positions of self-attention, shared by the layers.

    Source: Vaswani et al. 2017, figure 1, right.
    """

    def __init__(self, options: TransformerOptions, *, rotary: RotaryPositions | None = None) -> None:
        super().__init__()
        self.norm_first = options.norm_first
        self.self_attention = options.build_self_attention(is_causal=True, rotary=rotary)
        self.self_attention_norm = options.build_norm()
        self.cross_attention = options.build_cross_attention()
        self.cross_attention_norm = options.build_norm()
        self.feed_forward = options.build_feed_forward()
        self.feed_forward_norm = options.build_norm()

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
        """Decodes T tokens of the target.

        Args:
            x: (B, T, W).
            context: (B, S, W_c); may be left out once the cache has seen it.
            key_mask: Boolean (B, T), True = a real token of the target.
            context_mask: Boolean (B, S), True = a real token of the context.
            rotation: That of the target's positions.
            cache: Both attentions' memory of earlier steps.

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

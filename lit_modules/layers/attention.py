"""Multi-head, multi-query and grouped-query attention, over itself or over a context.

Shape letters: B batch, T queries, S keys, H query heads, H_kv key/value heads, D width of a head, W width of
the model, W_c width of the context.
"""

from typing import NamedTuple

import torch.nn as nn
from torch import Tensor

from lit_modules.configs.transformer import AttentionImplementation
from lit_modules.layers.argument_checks import check_choice, check_probability
from lit_modules.layers.building_blocks import building_blocks, layer_implementation
from lit_modules.layers.dropout import Dropout
from lit_modules.layers.kv_cache import ContextCache, KVCache, token_positions
from lit_modules.layers.norm import RMSNorm
from lit_modules.layers.positional import RotaryPositions, Rotation
from lit_modules.layers.scaled_dot_product import (
    attention_weights,
    check_attention_dropout,
    scaled_dot_product_attention,
)
from lit_modules.layers.visibility import check_key_mask


class Attention(nn.Module):
    """output(concat_h softmax(Q_h K_hᵀ / √D) V_h): Q is linear in the input.

    K and V are linear in the input or in the context.

    In all masks True means may be attended. (In `nn.MultiheadAttention` True means blocked.)

    Args:
        width: W.
        num_heads: H.
        num_kv_heads: H_kv, which must divide H. H (the default) is multi-head attention, 1 multi-query,
            values between them grouped-query. Fewer heads shrink the KV cache.
        head_dim: D; W / H by default.
        context_width: W_c, if keys and values come from a context.
        bias: Whether the four projections have biases.
        qkv_bias: Whether queries, keys and values have biases; as `bias` by default.
        dropout: Probability of dropping an attention weight in training.
        output_dropout: Probability of dropping an entry of the output in training.
        qk_norm: Whether to apply RMS norm to queries and keys of each head, before any rotation.
        rotary: Rotary positions for queries and keys. Layers may share one object.
        is_causal: Whether tokens see only earlier tokens and themselves.
        window: A token sees only tokens less than `window` positions away.
        implementation: See `scaled_dot_product_attention`; also applies to the projections and the
            norms of `qk_norm`.

    Raises:
        ValueError: Heads that don't divide; a rotary width other than D; a window below 1; dropout with
            `tiled` or `triton`.

    Source:
        Vaswani et al. 2017, "Attention is all you need", section 3.2.2. Multi-query: Shazeer 2019;
        grouped-query: Ainslie et al. 2023; QK-norm: Henry et al. 2020; window: Beltagy et al. 2020.
    """

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        context_width: int | None = None,
        bias: bool = True,
        qkv_bias: bool | None = None,
        dropout: float = 0.0,
        output_dropout: float = 0.0,
        qk_norm: bool = False,
        rotary: RotaryPositions | None = None,
        is_causal: bool = False,
        window: int | None = None,
        implementation: AttentionImplementation = "fused",
    ) -> None:
        super().__init__()
        check_choice("implementation", implementation, AttentionImplementation)
        check_probability("dropout", dropout)
        check_probability("output_dropout", output_dropout)
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads {num_kv_heads} doesn't divide num_heads {num_heads}")
        if head_dim is None:
            if width % num_heads:
                raise ValueError(f"num_heads {num_heads} doesn't divide width {width}")
            head_dim = width // num_heads
        if rotary is not None and rotary.head_dim != head_dim:
            raise ValueError(
                f"rotary positions are for head_dim {rotary.head_dim}, but head_dim is {head_dim}"
            )
        if rotary is not None and context_width is not None:
            raise ValueError("rotary positions only apply to self-attention, not to attention to a context")
        check_attention_dropout(implementation, dropout)
        if window is not None and window < 1:
            raise ValueError(f"window is {window}, expected at least 1 (the token's own position)")

        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.context_width = context_width
        self.dropout = dropout
        self.rotary = rotary
        self.is_causal = is_causal
        self.window = window
        self.implementation: AttentionImplementation = implementation

        source_width = width if context_width is None else context_width
        linear = building_blocks(implementation).linear
        qkv_bias = bias if qkv_bias is None else qkv_bias
        self.query = linear(width, num_heads * head_dim, bias=qkv_bias)
        self.key = linear(source_width, num_kv_heads * head_dim, bias=qkv_bias)
        self.value = linear(source_width, num_kv_heads * head_dim, bias=qkv_bias)
        self.output = linear(num_heads * head_dim, width, bias=bias)
        self.output_dropout = Dropout(output_dropout)
        self.query_norm: RMSNorm | None = None
        self.key_norm: RMSNorm | None = None
        if qk_norm:
            self.query_norm = RMSNorm(head_dim, implementation=layer_implementation(implementation))
            self.key_norm = RMSNorm(head_dim, implementation=layer_implementation(implementation))

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        rotation: Rotation | None = None,
        cache: KVCache | ContextCache | None = None,
    ) -> Tensor:
        """Attend from `x` to `context`, or to `x` itself if there is no context.

        Args:
            x: (B, T, W).
            context: (B, S, W_c); optional once a `ContextCache` holds it.
            mask: Boolean, (T, S) or broadcastable to (B, H, T, S).
            key_mask: Boolean, (B, S), True = a real token of the context, or of `x`. With a `KVCache` it
                masks the T new tokens.
            rotation: Rotation of the positions of `x`, computed once for all layers; a layer without rotary
                positions ignores it. By default positions are 0, 1, 2 …, after those in the cache.
            cache: Self-attention appends to a `KVCache`; attention to a context fills a `ContextCache` at the
                first call.

        Returns:
            (B, T, W). For a query without visible keys it is the bias of `output`.

        Raises:
            ValueError: A missing or unexpected context; a KV cache without causality; shapes that don't
                match.
        """
        heads = self._project(x, context, mask, key_mask, rotation, cache)
        attended = scaled_dot_product_attention(
            heads.query,
            heads.key,
            heads.value,
            mask=heads.mask,
            is_causal=heads.is_causal,
            window=heads.window,
            dropout=self.dropout if self.training else 0.0,
            implementation=self.implementation,
        )  # (B, H, T, D)
        return self.output_dropout(self.output(attended.transpose(1, 2).flatten(2)))

    def weights(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        rotation: Rotation | None = None,
    ) -> Tensor:
        """Return the attention weights of `forward`, (B, H, T, S), without dropout."""
        heads = self._project(x, context, mask, key_mask, rotation, None)
        return attention_weights(
            heads.query, heads.key, mask=heads.mask, is_causal=heads.is_causal, window=heads.window
        )

    def _project(
        self,
        x: Tensor,
        context: Tensor | None,
        mask: Tensor | None,
        key_mask: Tensor | None,
        rotation: Rotation | None,
        cache: KVCache | ContextCache | None,
    ) -> "_Heads":
        query = self._query(x)  # (B, H, T, D)
        if context is not None or isinstance(cache, ContextCache):
            if isinstance(cache, KVCache):
                raise ValueError("attention to a context takes a ContextCache, got a KVCache")
            if self.is_causal or self.window is not None or self.rotary is not None:
                raise ValueError("causality, window and rotary positions don't apply to a context")
            key, value, key_mask = self._context_keys(context, key_mask, cache)
            return _Heads(query, key, value, _both(mask, _for_all_queries(key_mask, key)), False, None)

        if self.context_width is not None:
            raise ValueError(f"a context of width {self.context_width} is needed, but none is given")
        key, value = self._keys_and_values(x)  # (B, H_kv, T, D)
        if self.rotary is not None:
            if rotation is None:
                positions = token_positions(x.shape[1], key_mask=key_mask, cache=cache, device=x.device)
                rotation = self.rotary(positions, dtype=x.dtype)
            query, key = rotation(query, order="BHTD"), rotation(key, order="BHTD")
        if cache is None:
            mask = _both(mask, _for_all_queries(key_mask, key))
            return _Heads(query, key, value, mask, self.is_causal, self.window)

        if not self.is_causal:
            raise ValueError("a KV cache needs causal attention; build the module with is_causal=True")
        key, value, visible = cache.append(key, value, key_mask, window=self.window)  # (B, H_kv, S, D)
        if visible is None:
            return _Heads(query, key, value, mask, True, self.window)
        return _Heads(query, key, value, _both(mask, visible), False, None)

    def _query(self, x: Tensor) -> Tensor:
        return _split_heads(self.query(x), self.num_heads, self.query_norm)

    def _keys_and_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        key = _split_heads(self.key(source), self.num_kv_heads, self.key_norm)
        return key, _split_heads(self.value(source), self.num_kv_heads)

    def _context_keys(
        self, context: Tensor | None, key_mask: Tensor | None, cache: ContextCache | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        kept = None if cache is None else cache.get()
        if kept is not None:
            return kept
        if context is None:
            raise ValueError("the cache is empty: the first call needs the context")
        key, value = self._keys_and_values(context)
        if cache is not None:
            cache.fill(key, value, key_mask)
        return key, value, key_mask


class _Heads(NamedTuple):
    """Arguments of scaled dot-product attention."""

    query: Tensor  # (B, H, T, D)
    key: Tensor  # (B, H_kv, S, D)
    value: Tensor  # (B, H_kv, S, D)
    mask: Tensor | None
    is_causal: bool
    window: int | None


def _split_heads(x: Tensor, num_heads: int, norm: RMSNorm | None = None) -> Tensor:
    """Split and normalise heads: (B, T, heads · D) → (B, heads, T, D)."""
    heads = x.unflatten(-1, (num_heads, -1))
    return (heads if norm is None else norm(heads)).transpose(1, 2)


def _for_all_queries(key_mask: Tensor | None, key: Tensor) -> Tensor | None:
    """Reshape a mask of keys: (B, S) → (B, 1, 1, S)."""
    if key_mask is None:
        return None
    check_key_mask(key_mask, key.shape[0], key.shape[2])
    return key_mask[:, None, None, :]


def _both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b

"""Multi-head, multi-query and grouped-query attention, over itself or over a context.

Shape letters: B batch, T queries, S keys, H query heads, H_kv key/value heads, D width of a head, W width of
the model, W_c width of the context.
"""

from typing import NamedTuple

import torch.nn as nn
from torch import Tensor

from lit_modules.configs.transformer import AttentionImplementation
from lit_modules.layers.argument_checks import LayerImplementation, check_choice, check_probability
from lit_modules.layers.dropout import Dropout
from lit_modules.layers.kv_cache import ContextCache, KVCache, token_positions
from lit_modules.layers.norm import RMSNorm
from lit_modules.layers.positional import RotaryPositions, Rotation
from lit_modules.layers.scaled_dot_product import attention_weights, scaled_dot_product_attention
from lit_modules.layers.visibility import check_key_mask


class Attention(nn.Module):
    """output(concat_h softmax(Q_h K_hᵀ / √D) V_h) with Q, K, V linear in the input, or K, V in a context.

    All masks mean True = may be attended. (`nn.MultiheadAttention` has them the other way round.)

    Args:
        width: W.
        num_heads: H.
        num_kv_heads: H_kv, which divides H: H (the default) is multi-head attention, 1 multi-query, between
            them grouped-query. Fewer make the KV cache smaller.
        head_dim: D; default W / H.
        context_width: W_c, if keys and values are to come from a context of another width than W.
        bias: Whether the four projections have biases.
        dropout: Of attention weights, in training.
        output_dropout: Of the result, in training.
        qk_norm: RMS-normalise each head's queries and keys, before any rotation.
        rotary: Rotate queries and keys by their positions. One object may serve many layers.
        is_causal: No token sees a later one.
        window: A token sees no token that is `window` or more away.
        implementation: See `scaled_dot_product_attention`; of QK-norm too.

    Raises:
        ValueError: widths or numbers of heads that don't divide, a rotary width that isn't D, dropout of
            weights with `tiled`.

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
            raise ValueError(f"{num_heads} heads don't divide among {num_kv_heads} key/value heads")
        if head_dim is None:
            if width % num_heads:
                raise ValueError(f"a width of {width} doesn't divide among {num_heads} heads")
            head_dim = width // num_heads
        if rotary is not None and rotary.head_dim != head_dim:
            raise ValueError(
                f"rotary positions for heads of width {rotary.head_dim}, the heads have {head_dim}"
            )
        if rotary is not None and context_width is not None:
            raise ValueError("rotary positions are distances in one sequence: not for attention to a context")
        if dropout and implementation == "tiled":
            raise ValueError(f"implementation 'tiled' has no dropout of attention weights, got {dropout}")
        if window is not None and window < 1:
            raise ValueError(f"window is {window}, expected at least 1 (a token's own position)")

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
        self.query = nn.Linear(width, num_heads * head_dim, bias=bias)
        self.key = nn.Linear(source_width, num_kv_heads * head_dim, bias=bias)
        self.value = nn.Linear(source_width, num_kv_heads * head_dim, bias=bias)
        self.output = nn.Linear(num_heads * head_dim, width, bias=bias)
        self.output_dropout = Dropout(output_dropout)
        self.query_norm: RMSNorm | None = None
        self.key_norm: RMSNorm | None = None
        if qk_norm:
            norm_implementation: LayerImplementation = "fused" if implementation == "fused" else "by_hand"
            self.query_norm = RMSNorm(head_dim, implementation=norm_implementation)
            self.key_norm = RMSNorm(head_dim, implementation=norm_implementation)

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
        """Attends `x` itself, or `context` where one is given.

        Args:
            x: (B, T, W).
            context: (B, S, W_c). A `ContextCache` that has seen it may stand in for it.
            mask: Boolean, (T, S) or broadcastable to (B, H, T, S).
            key_mask: Boolean (B, S), True = a real token, False = padding: of the context, or of `x`. With a
                `KVCache` it is that of the T new tokens.
            rotation: That of `x`'s positions, computed once for all layers. By default the tokens of `x`
                stand at 0, 1, 2 …, or behind those in the cache.
            cache: Self-attention takes a `KVCache` and appends to it; attention to a context takes a
                `ContextCache` and fills it at the first call.

        Returns:
            (B, T, W). Where nothing may be attended the heads give zeros, so `output`'s bias remains.

        Raises:
            ValueError: a context where the module was built for none or the reverse; a KV cache without
                causality; shapes that don't fit.
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
        """The attention maps (B, H, T, S) that `forward` would use, for a look at them; no dropout."""
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
                raise ValueError("causality, window and rotary positions don't reach into a context")
            key, value, key_mask = self._context_keys(context, key_mask, cache)
            return _Heads(query, key, value, _both(mask, _for_all_queries(key_mask, key)), False, None)

        if self.context_width is not None:
            raise ValueError(f"built for a context of width {self.context_width}, but none is given")
        key, value = self._keys_and_values(x)  # (B, H_kv, T, D)
        if rotation is None and self.rotary is not None:
            positions = token_positions(x.shape[1], key_mask=key_mask, cache=cache, device=x.device)
            rotation = self.rotary(positions, dtype=x.dtype)
        if rotation is not None:
            query, key = rotation(query, order="BHTD"), rotation(key, order="BHTD")
        if cache is None:
            mask = _both(mask, _for_all_queries(key_mask, key))
            return _Heads(query, key, value, mask, self.is_causal, self.window)

        if not self.is_causal:
            raise ValueError("a KV cache holds the past, so the module must be built with is_causal=True")
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
            raise ValueError("the cache is still empty: the first call needs the context")
        key, value = self._keys_and_values(context)
        if cache is not None:
            cache.fill(key, value, key_mask)
        return key, value, key_mask


class _Heads(NamedTuple):
    """What goes into scaled dot-product attention."""

    query: Tensor  # (B, H, T, D)
    key: Tensor  # (B, H_kv, S, D)
    value: Tensor  # (B, H_kv, S, D)
    mask: Tensor | None
    is_causal: bool
    window: int | None


def _split_heads(x: Tensor, num_heads: int, norm: RMSNorm | None = None) -> Tensor:
    """(B, T, heads · D) → (B, heads, T, D), each head normalised while it lies in one piece of memory."""
    heads = x.unflatten(-1, (num_heads, -1))
    return (heads if norm is None else norm(heads)).transpose(1, 2)


def _for_all_queries(key_mask: Tensor | None, key: Tensor) -> Tensor | None:
    """(B, S) → (B, 1, 1, S)."""
    if key_mask is None:
        return None
    check_key_mask(key_mask, key.shape[0], key.shape[2])
    return key_mask[:, None, None, :]


def _both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b

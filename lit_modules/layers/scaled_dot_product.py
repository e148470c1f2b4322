"""Scaled dot-product attention: by hand, with PyTorch's kernel, tiled, or in Triton, with the same rules.

Shape letters: B batch, H query heads, H_kv key/value heads, G = H / H_kv query heads that share a key head,
T queries, S keys, D width of a head.
"""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.configs.transformer import AttentionImplementation
from lit_modules.functional.precision import widen
from lit_modules.functional.softmax import softmax
from lit_modules.layers.argument_checks import check_choice
from lit_modules.layers.dropout import dropout as apply_dropout
from lit_modules.layers.flash_attention import flash_attention
from lit_modules.layers.grouped_heads import stack_groups, unstack_groups
from lit_modules.layers.triton_attention import triton_attention
from lit_modules.layers.visibility import (
    are_finite,
    attention_mask,
    check_attention_shapes,
    clear_hidden_keys,
    may_look,
    seen_at_all,
    separate_nan,
)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    implementation: AttentionImplementation = "fused",
) -> Tensor:
    r"""Compute softmax(Q Kᵀ · scale) V; a query sees the keys that mask, causality and window all allow.

    Heads may share keys: query head h uses key head ⌊h / G⌋.

        multi-head    q q q q q q      grouped-query   q q q q q q      multi-query   q q q q q q
        H_kv = H      | | | | | |      1 < H_kv < H     \|/   \|/       H_kv = 1       \ \ | | / /
                      k k k k k k                       k     k                          k

    If a key or value is not finite, the outputs of the queries that may see it are NaN, and all others are
    right. On a GPU and in a compiled graph, a search for such values would cost time. There, the others are
    right only if the mask hides these keys from all queries.

    Causality is aligned bottom-right: the last query has the position of the last key, so T new tokens see S
    − T cached ones. (PyTorch's `is_causal` is aligned top-left, which is right only for T = S.)

    Args:
        query: (B, H, T, D).
        key: (B, H_kv, S, D).
        value: (B, H_kv, S, D_v).
        mask: Boolean, (T, S) or broadcastable to (B, H, T, S). True = may be attended. Keys and values that
            it hides from all queries have no effect, not even NaN.
        is_causal: Whether query t sees key s only if s ≤ t + S − T.
        window: Number of keys visible on each side, including the query's own: |t + S − T − s| < window.
        scale: 1/√D by default, with D the width of a head.
        dropout: Probability of dropping an attention weight, applied in evaluation too; not for `tiled` and
            `triton`.
        implementation: `fused` is PyTorch's kernel, `by_hand` the formula above, `tiled` flash attention in
            PyTorch, `triton` flash attention as GPU kernels.

    Returns:
        (B, H, T, D_v), in the type of the query; zeros for a query without visible keys.

    Raises:
        ValueError: Shapes that don't match; a mask that isn't boolean; dropout with `tiled` or `triton`;
            what `triton_attention` refuses.

    Source:
        Vaswani et al. 2017, "Attention is all you need", eq. 1; Ainslie et al. 2023, "GQA".
    """
    check_choice("implementation", implementation, AttentionImplementation)
    check_attention_shapes(query, key, value, mask, window)
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    if window is not None and window >= max(num_queries, num_keys):
        window = None  # hides nothing
    if num_queries == 1 and window is None:
        is_causal = False  # the last query sees every key
    if scale is None:
        scale = query.shape[-1] ** -0.5

    check_attention_dropout(implementation, dropout)
    hides_from_some = is_causal or window is not None or (mask is not None and mask.shape[-3:-1].numel() > 1)
    tainted = None
    if hides_from_some and may_look(key) and not are_finite(key, value):
        visible = attention_mask(num_queries, num_keys, mask, is_causal, window, query.device)
        assert visible is not None
        key, value, tainted = separate_nan(key, value, visible, query.shape[1])
    if implementation == "tiled":
        output = flash_attention(
            query, key, value, mask=mask, is_causal=is_causal, window=window, scale=scale
        )
    elif implementation == "triton":
        output = triton_attention(
            query, key, value, mask=mask, is_causal=is_causal, window=window, scale=scale
        ).output
    elif implementation == "by_hand":
        weights = attention_weights(query, key, mask=mask, is_causal=is_causal, window=window, scale=scale)
        (value,) = clear_hidden_keys(mask, value)
        output = _weighted_sum(apply_dropout(weights, dropout), value).to(query.dtype)
    else:
        output = _fused(query, key, value, mask, is_causal, window, scale, dropout)
    return output if tainted is None else output.masked_fill(tainted, torch.nan)


def attention_weights(
    query: Tensor,
    key: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """Compute the attention weights softmax(Q Kᵀ · scale).

    The arguments are those of `scaled_dot_product_attention`.

    Returns:
        (B, H, T, S), fp32 for half precision. Rows sum to 1, or are zero for a query without visible keys.

    Raises:
        ValueError: Shapes that don't match; a mask that isn't boolean.
    """
    check_attention_shapes(query, key, None, mask, window)
    (key,) = clear_hidden_keys(mask, key)
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    # In fp32, because the kernels accumulate in fp32 as well.
    with torch.autocast(query.device.type, enabled=False):
        stacked = stack_groups(widen(query) * scale, key.shape[1])  # (B, H_kv, G·T, D)
        scores = unstack_groups(stacked @ widen(key).transpose(-2, -1), query.shape[1])  # (B, H, T, S)
        visible = attention_mask(num_queries, num_keys, mask, is_causal, window, query.device)
        if visible is not None:
            scores = scores.masked_fill(~visible, -torch.inf)
        return softmax(scores, dim=-1)


def check_attention_dropout(implementation: str, dropout: float) -> None:
    """Check that an implementation can drop attention weights.

    Raises:
        ValueError: It computes the weights in tiles.
    """
    if dropout and implementation in ("tiled", "triton"):
        raise ValueError(
            f"implementation {implementation!r} has no dropout of attention weights, got dropout {dropout}"
        )


def _weighted_sum(weights: Tensor, value: Tensor) -> Tensor:
    """Multiply weights (B, H, T, S) by values (B, H_kv, S, D_v): (B, H, T, D_v)."""
    with torch.autocast(weights.device.type, enabled=False):
        stacked = stack_groups(weights, value.shape[1]) @ widen(value)  # (B, H_kv, G·T, D_v)
        return unstack_groups(stacked, weights.shape[1])


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    window: int | None,
    scale: float,
    dropout: float,
) -> Tensor:
    """Call PyTorch's kernel; add bottom-right causality, windows, and zeros for rows without keys."""
    key, value = clear_hidden_keys(mask, key, value)
    heads, num_queries = query.shape[1:3]
    kv_heads, num_keys = key.shape[1:3]
    top_left_is_bottom_right = is_causal and num_queries == num_keys and window is None and mask is None
    visible = None
    if not top_left_is_bottom_right:
        visible = attention_mask(num_queries, num_keys, mask, is_causal, window, query.device)
    empty = None
    if visible is not None and (mask is not None or num_queries > num_keys):
        empty = ~seen_at_all(visible)
        if may_look(empty) and not empty.any():
            empty = None
        else:  # kernels differ on rows without keys (zeros, NaN, NaN gradients), so unmask them
            visible = visible | empty

    # For one query the group dim replaces the time dim: one product for each key head. The kernel's own
    # grouping would read the keys once for each query head, and in bf16 repack them.
    same_for_heads = visible is None or visible.dim() == 2 or visible.shape[1] == 1
    fold = num_queries == 1 and heads != kv_heads and same_for_heads
    if fold:
        query = stack_groups(query, kv_heads)  # (B, H_kv, G, D)
    dtype = query.dtype
    wide = _backward_is_slow(query, key, value)
    if wide:
        query, key, value = widen(query), widen(key), widen(value)
    with torch.autocast(query.device.type, enabled=False) if wide else nullcontext():
        output = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=visible,
            dropout_p=dropout,
            is_causal=top_left_is_bottom_right,
            scale=scale,
            enable_gqa=bool(query.shape[1] != kv_heads),  # in a trace a size is a tensor
        ).to(dtype)
    if fold:
        output = unstack_groups(output, heads)
    return output if empty is None else output.masked_fill(empty, 0)


def _backward_is_slow(*inputs: Tensor) -> bool:
    """Tell whether to compute in fp32: on CPUs the half-precision backward takes 1.3–3 × as long."""
    needed = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return needed and inputs[0].device.type == "cpu" and inputs[0].dtype in (torch.bfloat16, torch.float16)

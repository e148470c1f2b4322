"""Scaled dot-product attention: by hand, through PyTorch's kernel, or tiled, with one set of rules.

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
from lit_modules.layers.flash_attention import flash_attention
from lit_modules.layers.grouped_heads import stack_groups, unstack_groups
from lit_modules.layers.visibility import attention_mask, check_attention_shapes, may_look, seen_at_all


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
    """softmax(Q Kᵀ · scale) V, where each query sees the keys that mask, causality and window all allow.

    Heads may share keys: query head h reads key head ⌊h / G⌋.

        multi-head    q q q q q q      grouped-query   q q q q q q      multi-query   q q q q q q
        H_kv = H      | | | | | |      1 < H_kv < H     \\|/   \\|/       H_kv = 1       \\ \\ | | / /
                      k k k k k k                       k     k                          k

    Causality is aligned bottom-right: the last query stands at the last key, so that T new tokens behind
    S − T cached ones see the cache. (PyTorch's `is_causal` is aligned top-left, right only for T = S.)

    Args:
        query: (B, H, T, D).
        key: (B, H_kv, S, D).
        value: (B, H_kv, S, D_v).
        mask: Boolean, (T, S) or broadcastable to (B, H, T, S). True = may be attended.
        is_causal: Query t sees key s only if s ≤ t + S − T.
        window: How many keys a query reaches on one side, its own included: |t + S − T − s| < window.
        scale: Default 1/√D, with D the width of a head, not of the model.
        dropout: Probability of dropping an attention weight; applied whenever it isn't 0. Not for `tiled`.
        implementation: `fused` is PyTorch's kernel, `by_hand` the formula above, `tiled` flash attention.

    Returns:
        (B, H, T, D_v), in the query's type. A query that may attend nothing gets zeros.

    Raises:
        ValueError: shapes that don't fit, a mask that isn't boolean, dropout with `tiled`.

    Source:
        Vaswani et al. 2017, "Attention is all you need", eq. 1; Ainslie et al. 2023, "GQA".
    """
    check_choice("implementation", implementation, AttentionImplementation)
    check_attention_shapes(query, key, value, mask, window)
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    if window is not None and window >= max(num_queries, num_keys):
        window = None  # reaches everything
    if num_queries == 1 and window is None:
        is_causal = False  # the last query sees every key anyway
    if scale is None:
        scale = query.shape[-1] ** -0.5

    if implementation == "tiled":
        if dropout:
            raise ValueError(f"implementation 'tiled' has no dropout of attention weights, got {dropout}")
        return flash_attention(query, key, value, mask=mask, is_causal=is_causal, window=window, scale=scale)
    if implementation == "by_hand":
        weights = attention_weights(query, key, mask=mask, is_causal=is_causal, window=window, scale=scale)
        return _weighted_sum(F.dropout(weights, dropout), value).to(query.dtype)
    return _fused(query, key, value, mask, is_causal, window, scale, dropout)


def attention_weights(
    query: Tensor,
    key: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """softmax(Q Kᵀ · scale), the attention map itself; arguments as for `scaled_dot_product_attention`.

    Returns:
        (B, H, T, S), fp32 for half precision. Rows sum to 1, or are zeros where nothing may be attended.
    """
    check_attention_shapes(query, key, None, mask, window)
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    # Scores in half precision would lose what the kernels keep by accumulating in fp32.
    with torch.autocast(query.device.type, enabled=False):
        stacked = stack_groups(widen(query) * scale, key.shape[1])  # (B, H_kv, G·T, D)
        scores = unstack_groups(stacked @ widen(key).transpose(-2, -1), query.shape[1])  # (B, H, T, S)
        visible = attention_mask(num_queries, num_keys, mask, is_causal, window, query.device)
        if visible is not None:
            scores = scores.masked_fill(~visible, -torch.inf)
        return softmax(scores, dim=-1)


def _weighted_sum(weights: Tensor, value: Tensor) -> Tensor:
    """(B, H, T, S) weights of (B, H_kv, S, D_v) values → (B, H, T, D_v)."""
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
    """PyTorch's kernel, given what it lacks: bottom-right causality, windows, zeros for an empty row."""
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
        else:  # kernels differ on a row without keys (zeros, NaN, NaN gradients), so none gets to see one
            visible = visible | empty

    # With one query a group of heads takes the place of time: one product for each key head, where the
    # kernel's own grouping reads (and in bf16 repacks) the keys once for each query head.
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
            enable_gqa=query.shape[1] != kv_heads,
        ).to(dtype)
    if fold:
        output = unstack_groups(output, heads)
    return output if empty is None else output.masked_fill(empty, 0)


def _backward_is_slow(*inputs: Tensor) -> bool:
    """Whether to compute in fp32: on CPUs the kernel's half-precision backward takes 1.3–3 × as long."""
    needed = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return needed and inputs[0].device.type == "cpu" and inputs[0].dtype in (torch.bfloat16, torch.float16)

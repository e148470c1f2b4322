"""Flash attention in PyTorch: exact attention, tile by tile, in memory linear in the number of tokens.

The T × S scores are never stored as a whole. The forward pass loops over blocks of keys for each block of
queries. It updates a running maximum m, a sum l of exponentials and a weighted sum acc of values, and
rescales both sums when the maximum grows (the online softmax):

    m' = max(m, max s)    a = exp(m − m')    l' = a·l + Σ exp(s − m')    acc' = a·acc + exp(s − m') V

At the end out = acc / l. Only the log-sum-exp of each query, lse = m + log l, is saved for the backward pass,
which recomputes each tile of weights as P = exp(s − lse):

    δ = Σ_d out · g      dV = Pᵀ g      dS = P ⊙ (g Vᵀ − δ)      dQ = scale · dS K      dK = scale · dSᵀ Q

Source: Dao et al. 2022, "FlashAttention", algorithms 1 and 4; Milakov & Gimelshein 2018 (online softmax).

Shape letters: B batch, H query heads, H_kv key/value heads, G = H / H_kv, T queries, S keys, D head width,
t and s the lengths of one tile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from lit_modules.functional.precision import widen
from lit_modules.layers.grouped_heads import stack_groups, unstack_groups
from lit_modules.layers.visibility import check_attention_shapes, clear_hidden_keys


def flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    block_size: int = 256,
) -> Tensor:
    """Compute softmax(Q Kᵀ · scale) V in tiles, with the rules of `scaled_dot_product_attention`.

    Tiles that causality or the window hides are skipped. There are no second derivatives.

    Args:
        query: (B, H, T, D).
        key: (B, H_kv, S, D).
        value: (B, H_kv, S, D_v).
        mask: Boolean, (T, S) or broadcastable to (B, H, T, S), True = may be attended. A mask of keys only,
            (B, 1, 1, S), keeps the memory linear.
        is_causal: Whether query t sees key s only if s ≤ t + S − T.
        window: Query t sees key s only if |t + S − T − s| < window.
        scale: 1/√D by default.
        block_size: Side of a tile. Larger tiles are faster; their memory grows with the square.

    Returns:
        (B, H, T, D_v), in the type of the query; zeros for a query without visible keys.

    Raises:
        ValueError: Shapes that don't match; a mask that isn't boolean; a block size below 1.
    """
    check_attention_shapes(query, key, value, mask, window)
    if block_size < 1:
        raise ValueError(f"block_size is {block_size}, expected at least 1")
    key, value = clear_hidden_keys(mask, key, value)
    if mask is not None:
        mask = mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    tiling = _Tiling(query.shape[2], key.shape[2], is_causal, window, block_size)
    return _FlashAttention.apply(query, key, value, mask, tiling, scale)


@dataclass(frozen=True)
class _Tiling:
    """Division of T × S into tiles, and the visible part of each tile."""

    num_queries: int
    num_keys: int
    is_causal: bool
    window: int | None
    block_size: int

    def query_blocks(self) -> Iterator[slice]:
        return _blocks(0, self.num_queries, self.block_size)

    def key_blocks(self, queries: slice) -> Iterator[slice]:
        """Yield the blocks of keys that are visible to any query of a block."""
        first, last = self._positions(queries)
        start, stop = 0, self.num_keys
        if self.is_causal:
            stop = min(stop, last + 1)
        if self.window is not None:
            start = max(start, first - self.window + 1)
            stop = min(stop, last + self.window)
        return _blocks(start, stop, self.block_size)

    def visible(self, queries: slice, keys: slice, device: torch.device) -> Tensor | None:
        """Return the mask of causality and window, boolean, (t, s); None if the whole tile is visible."""
        first, last = self._positions(queries)
        farthest = max(abs(last - keys.start), abs(first - (keys.stop - 1)))
        future = self.is_causal and keys.stop - 1 > first
        far = self.window is not None and farthest >= self.window
        if not (future or far):
            return None
        at = torch.arange(first, last + 1, device=device)
        distance = at[:, None] - torch.arange(keys.start, keys.stop, device=device)  # (t, s)
        visible = distance >= 0 if self.is_causal else torch.ones_like(distance, dtype=torch.bool)
        return visible if self.window is None else visible & (distance.abs() < self.window)

    def _positions(self, queries: slice) -> tuple[int, int]:
        """Return the positions of the first and last query among the keys; both sequences end together."""
        shift = self.num_keys - self.num_queries
        return queries.start + shift, queries.stop - 1 + shift


def _blocks(start: int, stop: int, size: int) -> Iterator[slice]:
    for at in range(start, stop, size):
        yield slice(at, min(at + size, stop))


class _FlashAttention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        tiling: _Tiling,
        scale: float,
    ) -> Tensor:
        kv_heads = key.shape[1]
        output = query.new_zeros(*query.shape[:-1], value.shape[-1])
        # fp32 for half precision, because the recomputed weights depend on lse.
        lse = widen(query.new_zeros(0)).new_full(query.shape[:-1], -torch.inf)  # (B, H, T)
        with torch.autocast(query.device.type, enabled=False):
            for queries in tiling.query_blocks():
                q = widen(stack_groups(query[:, :, queries], kv_heads))  # (B, H_kv, G·t, D)
                peak = q.new_full((*q.shape[:-1], 1), -torch.inf)
                total = torch.zeros_like(peak)
                summed = q.new_zeros(*q.shape[:-1], value.shape[-1])
                for keys in tiling.key_blocks(queries):
                    scores = _scores(q, key, mask, tiling, queries, keys, scale)  # (B, H_kv, G·t, s)
                    new_peak = torch.maximum(peak, scores.amax(-1, keepdim=True))
                    safe_peak = _finite(new_peak)
                    weights = scores.sub_(safe_peak).exp_()
                    shrink = (peak - safe_peak).exp_()
                    total = total.mul_(shrink).add_(weights.sum(-1, keepdim=True))
                    summed = summed.mul_(shrink).add_(weights @ widen(value[:, :, keys]))
                    peak = new_peak
                summed /= total.masked_fill(total == 0, 1)
                output[:, :, queries] = unstack_groups(summed, query.shape[1])
                lse[:, :, queries] = unstack_groups(_finite(peak) + total.log(), query.shape[1]).squeeze(-1)
        ctx.save_for_backward(query, key, value, mask, output, lse)
        ctx.tiling, ctx.scale = tiling, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, output, lse = ctx.saved_tensors
        kv_heads, scale = key.shape[1], ctx.scale
        grad_query = torch.empty_like(query)
        grad_key, grad_value = torch.zeros_like(widen(key)), torch.zeros_like(widen(value))
        with torch.autocast(query.device.type, enabled=False):
            for queries in ctx.tiling.query_blocks():
                q = widen(stack_groups(query[:, :, queries], kv_heads))  # (B, H_kv, G·t, D)
                g = widen(stack_groups(grad[:, :, queries], kv_heads))  # (B, H_kv, G·t, D_v)
                delta = (g * stack_groups(output[:, :, queries], kv_heads)).sum(-1, keepdim=True)
                row_lse = _finite(stack_groups(lse[:, :, queries, None], kv_heads))  # (B, H_kv, G·t, 1)
                grad_q = torch.zeros_like(q)
                for keys in ctx.tiling.key_blocks(queries):
                    weights = _scores(q, key, mask, ctx.tiling, queries, keys, scale).sub_(row_lse).exp_()
                    grad_value[:, :, keys] += weights.transpose(-2, -1) @ g
                    grad_weights = g @ widen(value[:, :, keys]).transpose(-2, -1)
                    grad_scores = grad_weights.sub_(delta).mul_(weights).mul_(scale)  # (B, H_kv, G·t, s)
                    grad_q += grad_scores @ widen(key[:, :, keys])
                    grad_key[:, :, keys] += grad_scores.transpose(-2, -1) @ q
                grad_query[:, :, queries] = unstack_groups(grad_q, query.shape[1])
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None, None, None


def _scores(
    q: Tensor, key: Tensor, mask: Tensor | None, tiling: _Tiling, queries: slice, keys: slice, scale: float
) -> Tensor:
    """Compute one tile of scores, (B, H_kv, G·t, s); −inf where hidden."""
    scores = (q @ widen(key[:, :, keys]).transpose(-2, -1)).mul_(scale)
    visible = tiling.visible(queries, keys, q.device)
    if mask is not None:
        tile = mask[:, :, queries, keys]  # (B, H, t, s)
        visible = tile if visible is None else visible & tile
    if visible is not None:
        length = visible.shape[-2]
        heads = scores.shape[1] * scores.shape[2] // length
        scores.view(scores.shape[0], heads, length, scores.shape[-1]).masked_fill_(~visible, -torch.inf)
    return scores


def _finite(x: Tensor) -> Tensor:
    """Replace −inf, the maximum or log-sum-exp of a row without visible keys, by 0."""
    return x.masked_fill(x == -torch.inf, 0)

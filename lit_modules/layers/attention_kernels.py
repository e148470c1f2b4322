"""Flash attention as three Triton kernels: forward, gradient of the queries, gradients of keys and values.

Triton exists on Linux only; nothing but `triton_attention` imports this file.

The forward kernel is the online softmax of `flash_attention` with powers of two, because a GPU has an
instruction for them: exp(x) = 2^(x log₂ e). Each program holds a block of queries and loops over the keys. In
the backward pass, one kernel holds a block of queries and sums dQ. Another holds a block of keys and sums dK
and dV over the queries of all heads that share these keys. There are no atomic additions, so each run gives
the same bits.

Source: Dao 2023, "FlashAttention-2", algorithms 1 and 2, sections 3.2 and 3.3; the division of the backward
pass into two kernels is that of Triton's tutorial "Fused Attention".

Shape letters: B batch, H query heads, H_kv key/value heads, G = H / H_kv, T queries, S keys, D head width,
D_v width of a value, t and s the sides of a tile. Query i is at position p = i + S − T of the keys. Outputs
and gradients are written in the order (B, T, H, D). Inputs have strides; their last dimension is contiguous.
"""

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
LOG2_E = tl.constexpr(1.4426950408889634)


# fmt: off
@triton.jit
def forward_kernel(
    query, key, value, mask, output, lse,
    query_b, query_h, query_t, key_b, key_h, key_s,
    value_b, value_h, value_s, mask_b, mask_h, mask_t, mask_s,
    heads, group, num_queries, num_keys, window, scale,
    D: tl.constexpr, D_V: tl.constexpr, D_PAD: tl.constexpr, D_V_PAD: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    IS_CAUSAL: tl.constexpr, HAS_WINDOW: tl.constexpr, MASK: tl.constexpr,
):
    """Compute a block of outputs, (t, D_v), and of log-sum-exps, (t,)."""
    batch, head, start = _program(heads, num_queries, BLOCK_T, IS_CAUSAL)
    key += batch * key_b + head // group * key_h
    value += batch * value_b + head // group * value_h
    mask += batch * mask_b + head * mask_h
    q = _load(query + batch * query_b + head * query_h, start, query_t, num_queries, BLOCK_T, D, D_PAD)
    peak = tl.full((BLOCK_T,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_T,), tl.float32)
    summed = tl.zeros((BLOCK_T, D_V_PAD), tl.float32)
    begin, end = _keys_of(start, num_queries, num_keys, window, BLOCK_T, IS_CAUSAL, HAS_WINDOW)
    for at in range(begin, end, BLOCK_S):
        k = _load(key, at, key_s, num_keys, BLOCK_S, D, D_PAD)
        v = _load(value, at, value_s, num_keys, BLOCK_S, D_V, D_V_PAD)
        scores = _hide(_dot(q, tl.trans(k)), start, at, num_queries, num_keys, window,
                       mask, mask_t, mask_s, BLOCK_T, BLOCK_S, IS_CAUSAL, HAS_WINDOW, MASK)  # (t, s)
        new_peak = tl.maximum(peak, tl.max(scores, 1) * scale)
        safe_peak = tl.where(new_peak == float("-inf"), 0.0, new_peak)  # for rows without visible keys
        weights = tl.exp2(scores * scale - safe_peak[:, None])
        shrink = tl.exp2(peak - safe_peak)
        total = total * shrink + tl.sum(weights, 1)
        summed = _dot(weights.to(v.dtype), v, summed * shrink[:, None])
        peak = new_peak
    safe_total = tl.where(total == 0.0, 1.0, total)
    _store(output + batch * num_queries * heads * D_V + head * D_V, start, heads * D_V, num_queries,
           summed / safe_total[:, None], BLOCK_T, D_V, D_V_PAD)
    rows = start + tl.arange(0, BLOCK_T)
    tl.store(lse + (batch * heads + head) * num_queries + rows, (peak + tl.log2(safe_total)) / LOG2_E,
             mask=rows < num_queries)


@triton.jit
def query_gradient_kernel(
    query, key, value, mask, output, lse,
    grad_output, grad_lse, delta, grad_query,
    query_b, query_h, query_t, key_b, key_h, key_s,
    value_b, value_h, value_s, mask_b, mask_h, mask_t, mask_s,
    grad_b, grad_h, grad_t,
    heads, group, num_queries, num_keys, window, scale,
    D: tl.constexpr, D_V: tl.constexpr, D_PAD: tl.constexpr, D_V_PAD: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    IS_CAUSAL: tl.constexpr, HAS_WINDOW: tl.constexpr, MASK: tl.constexpr,
):
    """Compute a block of dQ, (t, D), and of δ = Σ_d out · g − g_lse, (t,), which the other kernel reads."""
    batch, head, start = _program(heads, num_queries, BLOCK_T, IS_CAUSAL)
    key += batch * key_b + head // group * key_h
    value += batch * value_b + head // group * value_h
    mask += batch * mask_b + head * mask_h
    q = _load(query + batch * query_b + head * query_h, start, query_t, num_queries, BLOCK_T, D, D_PAD)
    g = _load(grad_output + batch * grad_b + head * grad_h, start, grad_t, num_queries, BLOCK_T, D_V, D_V_PAD)
    out = _load(output + batch * num_queries * heads * D_V + head * D_V, start, heads * D_V, num_queries,
                BLOCK_T, D_V, D_V_PAD)
    row = (batch * heads + head) * num_queries + start + tl.arange(0, BLOCK_T)
    inside = start + tl.arange(0, BLOCK_T) < num_queries
    row_lse = _finite_lse(lse + row, inside)
    row_delta = tl.sum(out.to(tl.float32) * g.to(tl.float32), 1)
    row_delta -= tl.load(grad_lse + row, mask=inside, other=0.0)
    tl.store(delta + row, row_delta, mask=inside)
    grad_q = tl.zeros((BLOCK_T, D_PAD), tl.float32)
    begin, end = _keys_of(start, num_queries, num_keys, window, BLOCK_T, IS_CAUSAL, HAS_WINDOW)
    for at in range(begin, end, BLOCK_S):
        k = _load(key, at, key_s, num_keys, BLOCK_S, D, D_PAD)
        v = _load(value, at, value_s, num_keys, BLOCK_S, D_V, D_V_PAD)
        scores = _hide(_dot(q, tl.trans(k)), start, at, num_queries, num_keys, window,
                       mask, mask_t, mask_s, BLOCK_T, BLOCK_S, IS_CAUSAL, HAS_WINDOW, MASK)  # (t, s)
        weights = tl.exp2(scores * scale - row_lse[:, None])
        grad_weights = _dot(g, tl.trans(v))
        grad_scores = weights * (grad_weights - row_delta[:, None])
        grad_q = _dot(grad_scores.to(k.dtype), k, grad_q)
    _store(grad_query + batch * num_queries * heads * D + head * D, start, heads * D, num_queries,
           grad_q * (scale / LOG2_E), BLOCK_T, D, D_PAD)


@triton.jit
def key_value_gradient_kernel(
    query, key, value, mask, lse, grad_output, delta,
    grad_key, grad_value,
    query_b, query_h, query_t, key_b, key_h, key_s,
    value_b, value_h, value_s, mask_b, mask_h, mask_t, mask_s,
    grad_b, grad_h, grad_t,
    heads, group, num_queries, num_keys, window, scale,
    D: tl.constexpr, D_V: tl.constexpr, D_PAD: tl.constexpr, D_V_PAD: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    IS_CAUSAL: tl.constexpr, HAS_WINDOW: tl.constexpr, MASK: tl.constexpr,
):
    """Compute a block of dK, (s, D), and of dV, (s, D_v), over all queries that see these keys."""
    kv_heads = heads // group
    batch, kv_head, start = _program(kv_heads, num_keys, BLOCK_S, False)
    k = _load(key + batch * key_b + kv_head * key_h, start, key_s, num_keys, BLOCK_S, D, D_PAD)
    v = _load(value + batch * value_b + kv_head * value_h, start, value_s, num_keys, BLOCK_S, D_V, D_V_PAD)
    grad_k = tl.zeros((BLOCK_S, D_PAD), tl.float32)
    grad_v = tl.zeros((BLOCK_S, D_V_PAD), tl.float32)
    begin, end = _queries_of(start, num_queries, num_keys, window, BLOCK_S, IS_CAUSAL, HAS_WINDOW)
    for member in range(group):
        head = kv_head * group + member
        head_query = query + batch * query_b + head * query_h
        head_grad = grad_output + batch * grad_b + head * grad_h
        head_mask = mask + batch * mask_b + head * mask_h
        for at in range(begin, end, BLOCK_T):
            q = _load(head_query, at, query_t, num_queries, BLOCK_T, D, D_PAD)
            g = _load(head_grad, at, grad_t, num_queries, BLOCK_T, D_V, D_V_PAD)
            row = (batch * heads + head) * num_queries + at + tl.arange(0, BLOCK_T)
            inside = at + tl.arange(0, BLOCK_T) < num_queries
            row_lse = _finite_lse(lse + row, inside)
            row_delta = tl.load(delta + row, mask=inside, other=0.0)
            scores = _hide(_dot(k, tl.trans(q)), at, start, num_queries, num_keys, window, head_mask,
                           mask_t, mask_s, BLOCK_T, BLOCK_S, IS_CAUSAL, HAS_WINDOW, MASK,
                           KEYS_FIRST=True)  # (s, t)
            weights = tl.exp2(scores * scale - row_lse[None, :])
            grad_v = _dot(weights.to(g.dtype), g, grad_v)
            grad_weights = _dot(v, tl.trans(g))
            grad_scores = weights * (grad_weights - row_delta[None, :])
            grad_k = _dot(grad_scores.to(q.dtype), q, grad_k)
    _store(grad_key + batch * num_keys * kv_heads * D + kv_head * D, start, kv_heads * D, num_keys,
           grad_k * (scale / LOG2_E), BLOCK_S, D, D_PAD)
    _store(grad_value + batch * num_keys * kv_heads * D_V + kv_head * D_V, start, kv_heads * D_V, num_keys,
           grad_v, BLOCK_S, D_V, D_V_PAD)


@triton.jit
def _program(heads, length, BLOCK: tl.constexpr, LAST_FIRST: tl.constexpr):
    """Return batch row, head and first row of this program's block.

    The blocks of a head run side by side, so they find its keys in the cache. With causality the last block
    has the most keys and runs first.
    """
    blocks = tl.cdiv(length, BLOCK)
    block = tl.program_id(0) % blocks
    if LAST_FIRST:
        block = blocks - 1 - block
    plane = (tl.program_id(0) // blocks).to(tl.int64)  # 64 bits, as offsets of large tensors need them
    return plane // heads, plane % heads, block * BLOCK


@triton.jit
def _keys_of(
    row, num_queries, num_keys, window,
    BLOCK_T: tl.constexpr, IS_CAUSAL: tl.constexpr, HAS_WINDOW: tl.constexpr,
):
    """Return the range of keys that a block of queries, the first of index `row`, may see."""
    begin, end = 0, num_keys
    position = row + num_keys - num_queries
    if IS_CAUSAL:
        end = tl.minimum(end, position + BLOCK_T)
    if HAS_WINDOW:
        begin = tl.maximum(begin, position - window + 1)
        end = tl.minimum(end, position + BLOCK_T - 1 + window)
    return begin, end


@triton.jit
def _queries_of(
    key, num_queries, num_keys, window,
    BLOCK_S: tl.constexpr, IS_CAUSAL: tl.constexpr, HAS_WINDOW: tl.constexpr,
):
    """Return the range of queries that may see a block of keys, the first of index `key`."""
    begin, end = 0, num_queries
    row = key + num_queries - num_keys  # the query at the position of the key
    if IS_CAUSAL:
        begin = tl.maximum(begin, row)
    if HAS_WINDOW:
        begin = tl.maximum(begin, row - window + 1)
        end = tl.minimum(end, row + BLOCK_S - 1 + window)
    return begin, end


@triton.jit
def _hide(
    scores, first_row, first_key,
    num_queries, num_keys, window, mask, mask_t, mask_s,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    IS_CAUSAL: tl.constexpr, HAS_WINDOW: tl.constexpr, MASK: tl.constexpr, KEYS_FIRST: tl.constexpr = False,
):
    """Set the scores of hidden keys to −inf; the tile is (t, s), or (s, t) with `KEYS_FIRST`.

    A tile that is visible as a whole needs no comparisons. Only tiles at an edge have them.
    """
    shift = num_keys - num_queries
    first, last = first_row + shift, first_row + BLOCK_T - 1 + shift  # positions
    at_edge = first_key + BLOCK_S > num_keys
    if IS_CAUSAL:
        at_edge = at_edge | (first_key + BLOCK_S - 1 > first)
    if HAS_WINDOW:
        at_edge = at_edge | (last - first_key >= window) | (first_key + BLOCK_S - 1 - first >= window)
    if MASK != "none":
        at_edge = first_key >= 0
    if at_edge:
        rows = tl.expand_dims(first_row + tl.arange(0, BLOCK_T), 0 if KEYS_FIRST else 1)
        keys = tl.expand_dims(first_key + tl.arange(0, BLOCK_S), 1 if KEYS_FIRST else 0)
        visible = keys < num_keys
        if IS_CAUSAL:
            visible = visible & (keys <= rows + shift)
        if HAS_WINDOW:
            visible = visible & (tl.abs(rows + shift - keys) < window)
        if MASK == "keys":
            visible = visible & (tl.load(mask + keys * mask_s, mask=keys < num_keys, other=0) != 0)
        if MASK == "full":
            offset = rows.to(tl.int64) * mask_t + keys * mask_s
            inside = (rows < num_queries) & (keys < num_keys)
            visible = visible & (tl.load(mask + offset, mask=inside, other=0) != 0)
        scores = tl.where(visible, scores, float("-inf"))
    return scores


@triton.jit
def _tile(
    base, start, stride, length, BLOCK: tl.constexpr, WIDTH: tl.constexpr, PAD: tl.constexpr
):
    """Return the pointers to a tile of rows, (BLOCK, PAD), and which of them are inside of the tensor."""
    rows, columns = tl.arange(0, BLOCK)[:, None], tl.arange(0, PAD)[None, :]
    inside = start + rows < length
    if PAD != WIDTH:
        inside = inside & (columns < WIDTH)
    return base + tl.cast(start, tl.int64) * stride + rows * stride + columns, inside


@triton.jit
def _load(
    base, start, stride, length, BLOCK: tl.constexpr, WIDTH: tl.constexpr, PAD: tl.constexpr
):
    """Load a tile of rows, (BLOCK, PAD); zeros outside of the tensor."""
    pointers, inside = _tile(base, start, stride, length, BLOCK, WIDTH, PAD)
    return tl.load(pointers, mask=inside, other=0.0)


@triton.jit
def _store(
    base, start, stride, length, tile,
    BLOCK: tl.constexpr, WIDTH: tl.constexpr, PAD: tl.constexpr,
):
    """Store a tile of rows, (BLOCK, PAD), in the type of the tensor; nothing outside of it."""
    pointers, inside = _tile(base, start, stride, length, BLOCK, WIDTH, PAD)
    tl.store(pointers, tile.to(base.dtype.element_ty), mask=inside)


@triton.jit
def _finite_lse(lse, inside):
    """Load log-sum-exps in base 2; +inf for rows outside or without visible keys, so their weights are 0."""
    values = tl.load(lse, mask=inside, other=float("inf")) * LOG2_E
    return tl.where(values == float("-inf"), float("inf"), values)


@triton.jit
def _dot(a, b, summed=None):
    """Return a b, or a b + `summed`.

    fp32 uses three products of TF32. On tensor cores this is as exact as fp32.
    """
    if INTERPRETED:  # the interpreter multiplies no bf16; fp32 holds the same products
        return tl.dot(a.to(tl.float32), b.to(tl.float32), summed)
    return tl.dot(a, b, summed, input_precision="tf32x3")
# fmt: on

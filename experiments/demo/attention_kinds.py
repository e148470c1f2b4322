"""Attention.

One head, many heads, shared heads, masks and tiles.
"""

from typing import cast

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from experiments.demo.outcome import Outcome, Result, error_of, numbers, random
from lit_modules.layers.attention import Attention
from lit_modules.layers.flash_attention import flash_attention
from lit_modules.layers.scaled_dot_product import attention_weights, scaled_dot_product_attention
from lit_modules.layers.self_attention import SelfAttention
from lit_modules.networks.transformer_conversion import attention_from_torch


def self_attention() -> Outcome:
    """Let each token collect values from the tokens that its query matches.

    Formula: softmax(Q Kᵀ / √D) V with Q = x W_q, K = x W_k, V = x W_v
    Source: Vaswani et al. 2017, "Attention is all you need", eq. 1
    Mistake: Scaling by the width of the input, not of the head; or not at all, which saturates the softmax.
    Code: lit_modules/layers/self_attention.py
    Picture: the weights of each token, with and without the scale
    """
    x, layer = numbers((1, 0, 1, 0), (0, 2, 0, 2), (1, 1, 1, 1)), SelfAttention(4, head_dim=3).double()
    with torch.no_grad():
        layer.query.weight.copy_(numbers((1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 1, 1)).T)
        layer.key.weight.copy_(numbers((0, 0, 1), (1, 1, 0), (0, 1, 0), (1, 1, 0)).T)
        layer.value.weight.copy_(numbers((0, 2, 0), (0, 3, 0), (1, 0, 3), (1, 1, 0)).T)
    output, weights = layer(x[None])
    query, key, value = layer.query(x), layer.key(x), layer.value(x)
    expected = F.scaled_dot_product_attention(query[None], key[None], value[None])
    return Outcome(
        inputs={"x": x, "Q": query, "K": key, "V": value},
        results=[
            Result(
                "weights of the values",
                weights,
                "torch.softmax",
                torch.softmax(query @ key.T / 3**0.5, dim=-1)[None],
                wrong=("scaled by √4", torch.softmax(query @ key.T / 4**0.5, dim=-1)),
            ),
            Result(
                "output",
                output,
                "F.scaled_dot_product_attention",
                expected,
                wrong=("no scale", torch.softmax(query @ key.T, dim=-1) @ value),
            ),
        ],
    )


def multi_head_attention() -> Outcome:
    """Attend with several heads, each on its own part of the width.

    Formula: W_o concat_h softmax(Q_h K_hᵀ / √D) V_h, D = W / H
    Source: Vaswani et al. 2017, "Attention is all you need", section 3.2.2
    Mistake: D by `/`, a float that no shape accepts; splitting heads by `view` without `transpose`.
    Code: lit_modules/layers/attention.py
    Picture: the weights of two heads, without and with a causal mask
    """
    x, theirs = random(1, 3, 4), nn.MultiheadAttention(4, 2, batch_first=True).double()
    ours, width = attention_from_torch(theirs), cast(int, 4 / 2)
    ours.implementation = "by_hand"
    heads = [part.view(1, 2, 3, 2) for part in (ours.query(x), ours.key(x), ours.value(x))]
    mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    expected, weights = theirs(x, x, x, average_attn_weights=False)
    return Outcome(
        inputs={"x": x},
        results=[
            Result(
                "width of a head",
                ours.head_dim,
                "nn.MultiheadAttention",
                theirs.head_dim,
                wrong=("4 / 2", error_of(lambda: x.view(1, 3, 2, width))),
            ),
            Result("weights of head 1", ours.weights(x)[0, 0], "nn.MultiheadAttention", weights[0, 0]),
            Result("weights of head 2", ours.weights(x)[0, 1], "nn.MultiheadAttention", weights[0, 1]),
            Result("output", ours(x), "nn.MultiheadAttention", expected, wrong=("view", ours.output(mixed))),
        ],
    )


def multi_query_attention() -> Outcome:
    """Share one head of keys and values among all query heads, for a small cache.

    Formula: softmax(Q_h Kᵀ / √D) V, the same K and V for every h
    Source: Shazeer 2019, "Fast transformer decoding: one write-head is all you need"
    Mistake: Scaling by the width of the model, not of the head.
    Code: lit_modules/layers/attention.py
    """
    x, layer = random(1, 3, 4), _grouped(num_kv_heads=1)
    query, key, value = _heads(layer, x)
    expanded = key.expand(-1, 4, -1, -1), value.expand(-1, 4, -1, -1)
    return Outcome(
        inputs={"x": x, "query heads": 4, "key heads": 1},
        results=[
            Result(
                "output",
                layer(x),
                "F.scaled_dot_product_attention",
                _join(layer, F.scaled_dot_product_attention(query, *expanded)),
                wrong=(
                    "scaled by √W",
                    _join(layer, F.scaled_dot_product_attention(query, *expanded, scale=0.5)),
                ),
            )
        ],
    )


def grouped_query_attention() -> Outcome:
    """Share each head of keys and values among a group of query heads.

    Formula: softmax(Q_h K_gᵀ / √D) V_g with g = ⌊h / G⌋, for G = H / H_kv heads in a group
    Source: Ainslie et al. 2023, "GQA: training generalized multi-query transformer models"
    Mistake: `repeat` instead of `repeat_interleave`: query heads then read the keys of another group.
    Code: lit_modules/layers/scaled_dot_product.py
    """
    x, layer = random(1, 3, 4), _grouped(num_kv_heads=2)
    query, key, value = _heads(layer, x)
    right = F.scaled_dot_product_attention(
        query, key.repeat_interleave(2, dim=1), value.repeat_interleave(2, dim=1)
    )
    wrong = F.scaled_dot_product_attention(query, key.repeat(1, 2, 1, 1), value.repeat(1, 2, 1, 1))
    return Outcome(
        inputs={"x": x, "query heads": 4, "key heads": 2},
        results=[
            Result(
                "output",
                layer(x),
                "F.scaled_dot_product_attention",
                _join(layer, right),
                wrong=("repeat", _join(layer, wrong)),
            )
        ],
    )


def cross_attention() -> Outcome:
    """Let the tokens of one sequence collect values from another.

    Formula: softmax(Q Kᵀ / √D) V with Q from x, K and V from the context
    Source: Vaswani et al. 2017, "Attention is all you need", section 3.2.3
    Mistake: The softmax over the queries instead of the keys; rows then don't sum to 1.
    Code: lit_modules/layers/attention.py
    """
    x, context = random(1, 2, 4), random(1, 3, 6)
    theirs = nn.MultiheadAttention(4, 2, kdim=6, vdim=6, batch_first=True).double()
    ours = attention_from_torch(theirs)
    ours.implementation = "by_hand"
    query, key, _ = _heads(ours, x, context)
    scores = query @ key.mT / ours.head_dim**0.5
    expected, weights = theirs(x, context, context, average_attn_weights=False)
    return Outcome(
        inputs={"x": x, "context": context},
        results=[
            Result(
                "weights of head 1: 2 queries, 3 keys",
                ours.weights(x, context)[0, 0],
                "nn.MultiheadAttention",
                weights[0, 0],
                wrong=("over the queries", scores.softmax(-2)[0, 0]),
            ),
            Result("output", ours(x, context), "nn.MultiheadAttention", expected),
        ],
    )


def causal_mask() -> Outcome:
    """Hide later tokens.

    Formula: the score of query t and key s is −∞ for s > t + S − T, before the softmax
    Source: Vaswani et al. 2017, "Attention is all you need", section 3.2.3
    Mistake: Masking after the softmax: rows don't sum to 1; aligning top-left when there are cached keys.
    Code: lit_modules/layers/visibility.py
    """
    query, key = random(1, 1, 3, 2), random(1, 1, 3, 2)
    new = query[:, :, :2]  # 2 new tokens and 3 keys: the first key is in the cache
    visible = torch.ones(3, 3, dtype=torch.bool).tril()
    scores = query @ key.mT / 2**0.5
    hidden = torch.softmax(scores.masked_fill(~visible, -torch.inf), dim=-1)
    cached = F.scaled_dot_product_attention(new, key, key, attn_mask=visible[1:])
    top_left = F.scaled_dot_product_attention(new, key, key, is_causal=True)
    return Outcome(
        inputs={"Q": query, "K = V": key},
        results=[
            Result(
                "weights",
                attention_weights(query, key, is_causal=True),
                "torch.softmax",
                hidden,
                wrong=("mask after softmax", scores.softmax(-1) * visible),
            ),
            Result(
                "output of 2 new tokens, 1 key in the cache",
                scaled_dot_product_attention(new, key, key, is_causal=True, implementation="by_hand"),
                "F.scaled_dot_product_attention",
                cached,
                wrong=("top-left", top_left),
            ),
        ],
    )


def padding_mask() -> Outcome:
    """Hide padding.

    Formula: the score of a padded key is −∞; a query that sees no key returns 0
    Source: Vaswani et al. 2017, "Attention is all you need"; PyTorch's attention masks
    Mistake: An inverted mask: `nn.MultiheadAttention` blocks where True, SDPA attends; NaN without any key.
    Code: lit_modules/layers/visibility.py
    """
    x, theirs = random(1, 3, 4), nn.MultiheadAttention(4, 2, batch_first=True).double()
    ours, real = attention_from_torch(theirs), torch.tensor([[True, True, False]])
    ours.implementation = "by_hand"
    nothing = torch.full((3,), -torch.inf, dtype=torch.float64)
    blank = torch.zeros(1, 1, 1, 3, dtype=torch.bool)
    query, key, _ = _heads(ours, x)
    return Outcome(
        inputs={"x": x, "real tokens": real},
        results=[
            Result(
                "output",
                ours(x, key_mask=real),
                "nn.MultiheadAttention",
                theirs(x, x, x, key_padding_mask=~real)[0],
                wrong=("mask inverted", theirs(x, x, x, key_padding_mask=real)[0]),
            ),
            Result(
                "weights without any visible key",
                attention_weights(query[:, :1, :1], key[:, :1], mask=blank),
                "zeros",
                torch.zeros(1, 1, 1, 3),
                wrong=("exp / sum", nothing.exp() / nothing.exp().sum()),
            ),
        ],
    )


def tiled_attention() -> Outcome:
    """Compute attention tile by tile, without storing all scores (flash attention).

    Formula: m' = max(m, max s), a = exp(m − m'), l' = a l + Σ exp(s − m'), o' = a o + exp(s − m') V
    Source: Dao et al. 2022, "FlashAttention", algorithm 1; Milakov & Gimelshein 2018 (online softmax)
    Mistake: Not rescaling the old sums by a when the maximum grows.
    Code: lit_modules/layers/flash_attention.py
    """
    query, key, value = numbers((1, 0)), numbers((0, 1), (1, 0), (3, 1), (2, 0), (5, 1), (0, 0)), random(6, 1)
    scores = (query @ key.T).flatten()
    prefixes = [(scores[:n], value[:n, 0]) for n in (2, 4, 6)]
    whole = [[float(s.max()), float((s - s.max()).exp().sum()), float(s.softmax(0) @ v)] for s, v in prefixes]
    ours = flash_attention(query[None, None], key[None, None], value[None, None], scale=1.0, block_size=2)
    theirs = F.scaled_dot_product_attention(query[None], key[None], value[None], scale=1.0)
    return Outcome(
        inputs={"scores s": scores, "V": value},
        results=[
            Result(
                "after 1, 2 and 3 tiles of two keys",
                _running_softmax(scores, value.flatten(), rescale=True),
                "all keys so far",
                numbers(*whole),
                wrong=("not rescaled", _running_softmax(scores, value.flatten(), rescale=False)),
                columns=("m", "l", "o / l"),
            ),
            Result("flash_attention", ours.flatten(), "F.scaled_dot_product_attention", theirs.flatten()),
        ],
    )


def _running_softmax(scores: Tensor, values: Tensor, *, rescale: bool) -> Tensor:
    """Return m, l and o / l after each tile of two keys; without `rescale` they are WRONG."""
    m, total, output, rows = scores.new_tensor(-torch.inf), 0 * scores[0], 0 * scores[0], []
    for s, v in zip(scores.split(2), values.split(2), strict=True):
        peak = torch.maximum(m, s.max())
        shrink = (m - peak).exp() if rescale else 1.0
        total = shrink * total + (s - peak).exp().sum()
        output = shrink * output + (s - peak).exp() @ v
        m = peak
        rows.append([float(m), float(total), float(output / total)])
    return numbers(*rows)


def _grouped(*, num_kv_heads: int) -> Attention:
    """Build attention of four query heads of width 2."""
    return Attention(4, num_heads=4, num_kv_heads=num_kv_heads, head_dim=2, implementation="by_hand").double()


def _heads(layer: Attention, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Project to queries, keys and values of heads, each (1, heads, T, D)."""
    source = x if context is None else context
    query, key, value = (
        part.unflatten(-1, (-1, layer.head_dim)).transpose(1, 2)
        for part in (layer.query(x), layer.key(source), layer.value(source))
    )
    return query, key, value


def _join(layer: Attention, heads: Tensor) -> Tensor:
    """Project heads (1, H, T, D) to the width of the model."""
    output: Tensor = layer.output(heads.transpose(1, 2).flatten(2))
    return output

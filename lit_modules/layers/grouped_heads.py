"""Stack query heads that share a key head along time: one product without copies of keys.

Shape letters: B batch, H query heads, H_kv key/value heads, G = H / H_kv, T queries, D width of a head.
"""

from torch import Tensor


def stack_groups(x: Tensor, kv_heads: int) -> Tensor:
    """Stack the heads of each group: (B, H, T, D) → (B, H_kv, G·T, D)."""
    batch, heads, length, width = x.shape
    return x.reshape(batch, kv_heads, heads // kv_heads * length, width)


def unstack_groups(x: Tensor, heads: int) -> Tensor:
    """Undo `stack_groups`: (B, H_kv, G·T, D) → (B, H, T, D)."""
    batch, kv_heads, stacked, width = x.shape
    return x.reshape(batch, heads, stacked * kv_heads // heads, width)

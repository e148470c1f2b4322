"""Combine causality, window and mask into one boolean tensor, True = the query may attend to the key.

Shape letters: B batch, H query heads, H_kv key/value heads, T queries, S keys.
"""

import math

import torch
from torch import Tensor

from lit_modules.functional.precision import widen
from lit_modules.layers.grouped_heads import stack_groups, unstack_groups


def attention_mask(
    num_queries: int,
    num_keys: int,
    mask: Tensor | None,
    is_causal: bool,
    window: int | None,
    device: torch.device,
) -> Tensor | None:
    """Build the mask of T queries at the positions of the last T of S keys.

    Args:
        num_queries: T.
        num_keys: S.
        mask: Boolean, (T, S) or broadcastable to (B, H, T, S).
        is_causal: Whether a query sees no later key.
        window: A query sees only keys less than this many positions away.
        device: Device of the result.

    Returns:
        Boolean, (T, S), or with the leading dims of `mask`; None if all keys are visible.
    """
    if not is_causal and window is None:
        return mask
    positions = torch.arange(num_keys - num_queries, num_keys, device=device)
    visible = visible_keys(positions, num_keys, is_causal=is_causal, window=window)
    return visible if mask is None else visible & mask


def visible_keys(positions: Tensor, num_keys: int, *, is_causal: bool, window: int | None) -> Tensor:
    """Build the mask of causality and window for queries at `positions` and keys at 0 … S − 1.

    Args:
        positions: Positions of the queries, (T,), or (B, T) if rows differ.
        num_keys: S.
        is_causal: Position p sees key s only if s ≤ p.
        window: Position p sees key s only if |p − s| < window.

    Returns:
        Boolean, (T, S) or (B, 1, T, S).
    """
    distance = positions.unsqueeze(-1) - torch.arange(num_keys, device=positions.device)  # ([B,] T, S)
    visible = distance >= 0 if is_causal else torch.ones_like(distance, dtype=torch.bool)
    if window is not None:
        visible &= distance.abs() < window
    return visible if visible.dim() == 2 else visible.unsqueeze(1)


def seen_at_all(visible: Tensor) -> Tensor:
    """Tell whether a query sees any key: (…, T, S) → (…, T, 1)."""
    return visible.any(dim=-1, keepdim=True)


def clear_hidden_keys(mask: Tensor | None, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Set keys and values that the mask hides from all queries to zero.

    Their attention weights are 0, but 0 × NaN is NaN: a NaN would reach the output and the gradients.

    Args:
        mask: Boolean, (T, S) or broadcastable to (B, H, T, S); None hides nothing.
        tensors: Keys or values, each (B, H_kv, S, …).

    Returns:
        The tensors; gradients are 0 where a key is hidden.
    """
    if mask is None:
        return tensors
    seen = mask.any(dim=-2)  # ([B, H,] S)
    kv_heads = tensors[0].shape[1]
    if seen.dim() == 3 and seen.shape[1] > kv_heads:
        seen = seen.unflatten(1, (kv_heads, -1)).any(dim=2)  # by any query head of the group
    if may_look(seen) and seen.all():
        return tensors
    hidden = ~seen.unsqueeze(-1)
    return tuple(x.masked_fill(hidden, 0) for x in tensors)


def separate_nan(key: Tensor, value: Tensor, visible: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Set keys and values that are not finite to zero, and find the outputs that would depend on them.

    Args:
        key: (B, H_kv, S, D).
        value: (B, H_kv, S, D_v).
        visible: Boolean, broadcastable to (B, H, T, S).
        heads: H.

    Returns:
        Keys and values that are finite, and the outputs to set to NaN, boolean (B, H, T, D_v).
    """
    key_is_bad, value_is_bad = ~key.isfinite(), ~value.isfinite()
    bad = (key_is_bad.any(-1, keepdim=True) | value_is_bad).float()  # (B, H_kv, S, D_v)
    seen = visible.expand(key.shape[0], heads, visible.shape[-2], key.shape[2]).float()
    count = unstack_groups(stack_groups(seen, key.shape[1]) @ bad, heads)  # (B, H, T, D_v)
    return key.masked_fill(key_is_bad, 0), value.masked_fill(value_is_bad, 0), count > 0


def are_finite(*tensors: Tensor) -> bool:
    """Return whether all values are finite. The sum tells it quickly, unless large values overflow."""
    total = sum(float(widen(x.detach()).sum()) for x in tensors)
    return math.isfinite(total) or all(bool(x.isfinite().all()) for x in tensors)


def may_look(x: Tensor) -> bool:
    """Tell whether reading a value is cheap; it stalls an accelerator and breaks a compiled graph."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def check_key_mask(key_mask: Tensor, batch: int, num_keys: int) -> None:
    """Check that a mask of keys is boolean and (B, S).

    Raises:
        ValueError: Another shape or type.
    """
    if key_mask.dtype != torch.bool:
        raise ValueError(f"key_mask must be boolean (True = a real token), got {key_mask.dtype}")
    if key_mask.shape != (batch, num_keys):
        raise ValueError(f"key_mask has shape {tuple(key_mask.shape)}, the keys need {(batch, num_keys)}")


def check_attention_shapes(
    query: Tensor, key: Tensor, value: Tensor | None, mask: Tensor | None, window: int | None
) -> None:
    """Check the arguments of `scaled_dot_product_attention`.

    Raises:
        ValueError: Shapes that don't match; a window below 1; a mask that isn't boolean.
    """
    tensors = {"query": query, "key": key} | ({} if value is None else {"value": value})
    for name, tensor in tensors.items():
        if tensor.dim() != 4:
            raise ValueError(f"{name} must be 4-D (B, heads, time, width), got {tuple(tensor.shape)}")
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
    if query.shape[0] != key.shape[0] or query.shape[-1] != key.shape[-1]:
        raise ValueError(f"batch size or head width differs: {shapes}")
    if value is not None and key.shape[:3] != value.shape[:3]:
        raise ValueError(f"keys and values differ in batch, heads or length: {shapes}")
    if key.shape[1] == 0 or query.shape[1] % key.shape[1]:
        raise ValueError(f"{key.shape[1]} key heads don't divide {query.shape[1]} query heads: {shapes}")
    if window is not None and window < 1:
        raise ValueError(f"window is {window}, expected at least 1 (the query's own position)")
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean (True = may be attended), got {mask.dtype}")
    full = (query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    fits = mask.dim() in (2, 4) and all(
        have in (1, need) for have, need in zip(mask.shape, full[-mask.dim() :], strict=True)
    )
    if not fits:
        raise ValueError(f"mask {tuple(mask.shape)} is neither {full[2:]} nor broadcastable to {full}")

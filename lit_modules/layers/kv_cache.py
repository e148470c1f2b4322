"""Caches of keys and values between decoding steps.

They are for inference; use them under `torch.no_grad()` or `torch.inference_mode()`.

Shape letters: B batch, H_kv key/value heads, C capacity, T new tokens, S keys so far or of the context,
D width of a head.
"""

import torch
from torch import Tensor

from lit_modules.layers.visibility import check_key_mask, visible_keys


class KVCache:
    """Keys and values of one causal self-attention layer, in preallocated storage.

    Rows of a batch may have different lengths. Padding is never stored: the real tokens of a row fill slots
    0, 1, 2 … without gaps, for prompts padded left or right. So the slot of a token is also its position.

        after the prompts "a b c" and "d"     [a b c . . .]     after one more token     [a b c x . .]
                                              [d . . . . .]     for each row             [d y . . . .]

    The storage has the type, device and shape of the first keys and values.

    Args:
        capacity: C, the maximum number of tokens of a row.

    Raises:
        ValueError: A capacity below 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected at least 1")
        self.capacity = capacity
        self.length = 0  # of the longest row
        self.row_lengths: Tensor | None = None  # (B,), once rows differ
        self._keys: Tensor | None = None  # (B, H_kv, C, D)
        self._values: Tensor | None = None  # (B, H_kv, C, D_v)

    def positions(self, num_tokens: int, key_mask: Tensor | None = None, *, device: torch.device) -> Tensor:
        """Return the positions of the next T tokens; see `token_positions`."""
        return self._slots(num_tokens, _if_any_padding(key_mask), device).clamp(min=0)

    def append(
        self, key: Tensor, value: Tensor, key_mask: Tensor | None = None, *, window: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store the keys and values of T new tokens.

        Args:
            key: (B, H_kv, T, D).
            value: (B, H_kv, T, D_v).
            key_mask: Boolean, (B, T), True = a real new token; None if all are real.
            window: Number of keys that a query sees, including its own.

        Returns:
            All keys so far, (B, H_kv, S, D), all values, (B, H_kv, S, D_v), and the mask of the T new tokens,
            (B, 1, T, S), which combines causality, window and row lengths. The mask is None while all rows
            have the same length; then the new tokens are the last keys.

        Raises:
            ValueError: A row longer than the capacity; shapes that differ from the stored ones.
        """
        batch, _, num_tokens, _ = key.shape
        if key_mask is not None:
            check_key_mask(key_mask, batch, num_tokens)
        key_mask = _if_any_padding(key_mask)
        slots = self._slots(num_tokens, key_mask, key.device)
        row_lengths, length = self.row_lengths, self.length + num_tokens
        if key_mask is not None:
            row_lengths = key_mask.sum(-1) + (self.length if row_lengths is None else row_lengths)
            length = int(row_lengths.max())
        elif row_lengths is not None:
            row_lengths = row_lengths + num_tokens
        if length > self.capacity:
            raise ValueError(
                f"the cache is full: its capacity is {self.capacity} tokens, and {length} are needed"
            )
        keys, values = self._storage(key, value)
        self.length, self.row_lengths = length, row_lengths

        visible = None
        if row_lengths is None:
            keys[:, :, length - num_tokens : length] = key
            values[:, :, length - num_tokens : length] = value
        else:
            rows = torch.arange(batch, device=key.device).unsqueeze(-1).expand_as(slots)  # (B, T)
            new_keys, new_values = key.transpose(1, 2), value.transpose(1, 2)  # (B, T, H_kv, D)
            if key_mask is None:
                keys[rows, :, slots] = new_keys
                values[rows, :, slots] = new_values
            else:
                rows, real_slots = rows[key_mask], slots[key_mask]  # (real tokens,)
                keys[rows, :, real_slots] = new_keys[key_mask]
                values[rows, :, real_slots] = new_values[key_mask]
            visible = visible_keys(slots, length, is_causal=True, window=window)
        return keys[:, :, :length], values[:, :, :length], visible

    def reorder(self, rows: Tensor) -> None:
        """Replace row i by the former row `rows[i]`; the number of rows may change.

        Args:
            rows: Indices of rows, (B',). Beam search passes the parent of each hypothesis.
        """
        if self._keys is None or self._values is None:
            return
        if self.row_lengths is not None:
            self.row_lengths = self.row_lengths[rows]
            self.length = int(self.row_lengths.max())
        self._keys = _copy_rows(self._keys, rows, self.length)
        self._values = _copy_rows(self._values, rows, self.length)

    def _slots(self, num_tokens: int, key_mask: Tensor | None, device: torch.device) -> Tensor:
        """Return the slots of the new tokens, (T,) or (B, T); those of padding are unused and may be −1."""
        lengths: Tensor | int = self.length if self.row_lengths is None else self.row_lengths.unsqueeze(-1)
        if key_mask is not None:
            return lengths + key_mask.cumsum(-1) - 1
        return lengths + torch.arange(num_tokens, device=device)

    def _storage(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if self._keys is None or self._values is None:
            # Zeros, because a masked slot is multiplied by weight 0, and 0 × NaN is NaN.
            self._keys = key.new_zeros(*key.shape[:2], self.capacity, key.shape[-1])
            self._values = value.new_zeros(*value.shape[:2], self.capacity, value.shape[-1])
        have, new = self._keys.shape, key.shape
        if (have[0], have[1], have[3]) != (new[0], new[1], new[3]):
            raise ValueError(
                f"keys {tuple(new)} don't match the cache {tuple(have)} (batch, heads, slots, width)"
            )
        return self._keys, self._values


class ContextCache:
    """Keys and values of a context (the output of an encoder), computed once by cross-attention."""

    def __init__(self) -> None:
        self._kept: tuple[Tensor, Tensor, Tensor | None] | None = None

    def fill(self, key: Tensor, value: Tensor, key_mask: Tensor | None) -> None:
        """Store keys (B, H_kv, S, D), values (B, H_kv, S, D_v) and their mask (B, S)."""
        self._kept = (key, value, key_mask)

    def get(self) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Return keys, values and mask; None before `fill`."""
        return self._kept

    def reorder(self, rows: Tensor) -> None:
        """Replace row i by the former row `rows[i]`, as `KVCache.reorder` does."""
        if self._kept is not None:
            key, value, key_mask = self._kept
            self._kept = (key[rows], value[rows], None if key_mask is None else key_mask[rows])


class DecoderLayerCache:
    """The two caches of a decoder layer with self- and cross-attention.

    Args:
        capacity: Maximum number of tokens of a target row.
    """

    def __init__(self, capacity: int) -> None:
        self.self_attention = KVCache(capacity)
        self.cross_attention = ContextCache()

    def reorder(self, rows: Tensor, *, same_context: bool = False) -> None:
        """Reorder both caches, or only that of self-attention if all rows keep their context."""
        self.self_attention.reorder(rows)
        if not same_context:
            self.cross_attention.reorder(rows)


def token_positions(
    num_tokens: int,
    *,
    key_mask: Tensor | None = None,
    cache: KVCache | None = None,
    device: torch.device,
) -> Tensor:
    """Return the positions of T tokens that follow those in the cache; padding isn't counted.

    Args:
        num_tokens: T.
        key_mask: Boolean (B, T), True = a real token.
        cache: The cache of the previous tokens, before the new ones are appended.
        device: Device of the result.

    Returns:
        (T,) if all rows are the same, else (B, T). Padding has the position of the previous token, or 0.
    """
    if cache is not None:
        return cache.positions(num_tokens, key_mask, device=device)
    if key_mask is not None:
        return (key_mask.cumsum(-1) - 1).clamp(min=0)
    return torch.arange(num_tokens, device=device)


def _if_any_padding(key_mask: Tensor | None) -> Tensor | None:
    """Return None for a mask without padding, which allows the fast path for rows of equal length."""
    return None if key_mask is None or bool(key_mask.all()) else key_mask


def _copy_rows(storage: Tensor, rows: Tensor, length: int) -> Tensor:
    """Copy the first `length` slots; reuse the storage if the number of rows stays the same."""
    moved = storage[rows, :, :length]
    if len(rows) != len(storage):
        storage = storage.new_zeros(len(rows), *storage.shape[1:])
    storage[:, :, :length] = moved
    return storage

"""What attention remembers between decoding steps: the keys and values of the tokens so far.

For inference: use them under `torch.no_grad()` or `torch.inference_mode()`.

Shape letters: B batch, H_kv key/value heads, C capacity, T new tokens, S keys so far or of the context,
D width of a head.
"""

import torch
from torch import Tensor

from lit_modules.layers.visibility import check_key_mask, visible_keys


class KVCache:
    """Keys and values of one causal self-attention layer, in storage that is allocated once.

    Rows of a batch may have different lengths. Padding is never stored: each row's real tokens lie in slots
    0, 1, 2 … without gaps, whether a prompt was padded left or right, and the row's next token follows them.
    So a slot is also the token's position.

        after the prompts "a b c" and "d"     [a b c . . .]     after one more token     [a b c x . .]
                                              [d . . . . .]     for each row             [d y . . . .]

    Storage takes type, device and shape from the first keys and values.

    Args:
        capacity: C, the most tokens that a row may have.

    Raises:
        ValueError: a capacity below 1.
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
        """Where the next T tokens will stand in their rows; see `token_positions`."""
        return self._slots(num_tokens, _if_any_padding(key_mask), device).clamp(min=0)

    def append(
        self, key: Tensor, value: Tensor, key_mask: Tensor | None = None, *, window: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Stores the keys and values of T new tokens.

        Args:
            key: (B, H_kv, T, D).
            value: (B, H_kv, T, D_v).
            key_mask: Boolean (B, T) of the new tokens, True = a real token; None if all are.
            window: How many keys back a query sees, its own included.

        Returns:
            All keys (B, H_kv, S, D) and values (B, H_kv, S, D_v) so far, and which of them the T new tokens
            may attend, (B, 1, T, S): causality, window and the rows' lengths in one. It is None while all
            rows are equally long; then the new tokens simply stand at the end of the keys.

        Raises:
            ValueError: a row would outgrow the capacity; the shapes differ from those stored.
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
                f"the cache holds {self.capacity} tokens a row, and row length {length} is needed"
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
        """Makes row i a copy of the former row `rows[i]`; rows may repeat, vanish, grow or shrink in number.

        Args:
            rows: (B',) indices of rows. Beam search passes each hypothesis's parent.
        """
        if self._keys is None or self._values is None:
            return
        if self.row_lengths is not None:
            self.row_lengths = self.row_lengths[rows]
            self.length = int(self.row_lengths.max())
        self._keys = _copy_rows(self._keys, rows, self.length)
        self._values = _copy_rows(self._values, rows, self.length)

    def _slots(self, num_tokens: int, key_mask: Tensor | None, device: torch.device) -> Tensor:
        """(T,) or (B, T): a slot for each new token; one for padding counts for nothing and may be −1."""
        lengths: Tensor | int = self.length if self.row_lengths is None else self.row_lengths.unsqueeze(-1)
        if key_mask is not None:
            return lengths + key_mask.cumsum(-1) - 1
        return lengths + torch.arange(num_tokens, device=device)

    def _storage(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if self._keys is None or self._values is None:
            # Zeros, because a hidden slot still enters a product with weight 0, and 0 × NaN is NaN.
            self._keys = key.new_zeros(*key.shape[:2], self.capacity, key.shape[-1])
            self._values = value.new_zeros(*value.shape[:2], self.capacity, value.shape[-1])
        have, new = self._keys.shape, key.shape
        if (have[0], have[1], have[3]) != (new[0], new[1], new[3]):
            raise ValueError(
                f"keys {tuple(new)} don't fit a cache of {tuple(have)} (batch, heads, slots, width)"
            )
        return self._keys, self._values


class ContextCache:
    """Keys and values of a context (an encoder's output), computed at the first cross-attention and kept."""

    def __init__(self) -> None:
        self._kept: tuple[Tensor, Tensor, Tensor | None] | None = None

    def fill(self, key: Tensor, value: Tensor, key_mask: Tensor | None) -> None:
        """Keeps (B, H_kv, S, D) keys, (B, H_kv, S, D_v) values and (B, S) which of them are real."""
        self._kept = (key, value, key_mask)

    def get(self) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """What `fill` was given; None before."""
        return self._kept

    def reorder(self, rows: Tensor) -> None:
        """Makes row i a copy of the former row `rows[i]`, as `KVCache.reorder`."""
        if self._kept is not None:
            key, value, key_mask = self._kept
            self._kept = (key[rows], value[rows], None if key_mask is None else key_mask[rows])


class DecoderLayerCache:
    """The two caches of a decoder layer with self- and cross-attention.

    Args:
        capacity: The most tokens that a row of the target may have.
    """

    def __init__(self, capacity: int) -> None:
        self.self_attention = KVCache(capacity)
        self.cross_attention = ContextCache()

    def reorder(self, rows: Tensor, *, same_context: bool = False) -> None:
        """Reorders both, as `KVCache.reorder`; only the first where each row keeps its context."""
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
    """Where T tokens stand: behind those in the cache, counted without the padding.

    Args:
        num_tokens: T.
        key_mask: Boolean (B, T), True = a real token.
        cache: What has the tokens before; ask before they are appended to it.
        device: Of the result.

    Returns:
        (T,) where all rows agree, else (B, T). Padding has the position of the token before it, or 0.
    """
    if cache is not None:
        return cache.positions(num_tokens, key_mask, device=device)
    if key_mask is not None:
        return (key_mask.cumsum(-1) - 1).clamp(min=0)
    return torch.arange(num_tokens, device=device)


def _if_any_padding(key_mask: Tensor | None) -> Tensor | None:
    """A mask without padding is no mask: rows stay equally long, which is the fast path."""
    return None if key_mask is None or bool(key_mask.all()) else key_mask


def _copy_rows(storage: Tensor, rows: Tensor, length: int) -> Tensor:
    """Only the first `length` slots are moved; storage is kept where the number of rows stays."""
    moved = storage[rows, :, :length]
    if len(rows) != len(storage):
        storage = storage.new_zeros(len(rows), *storage.shape[1:])
    storage[:, :, :length] = moved
    return storage

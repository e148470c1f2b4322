"""The cache of a `DecodingLM`: keys and values of all layers.

Shape letters: B batch, T new tokens, S tokens so far, C capacity, H_kv key/value heads, D width of a head.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_modules.layers.positional import RotaryPositions
from lit_modules.layers.visibility import check_key_mask, visible_keys


class Place(NamedTuple):
    """Positions, rotation and mask of T new tokens."""

    positions: Tensor  # (T,) or (B, T)
    rotation: Tensor | None  # complex, (T, 1, D/2) or (B, T, 1, D/2)
    visible: Tensor | None  # boolean, (1 or B, 1, T, S), if there is padding or a window
    padding: Tensor | None  # boolean, (B, 1, T, 1), if the new tokens have padding
    layers: tuple["Room", ...]


class Room(NamedTuple):
    """The views of the cache that one layer writes and reads."""

    new: Tensor  # keys, then values, of the new tokens (B, 2 H_kv, T, D)
    keys: Tensor  # all so far, (B, H_kv, S, D)
    values: Tensor  # (B, H_kv, S, D)


class DecodingCache:
    """Keys and values in preallocated storage with one column for each token, including padding.

    Padding is stored and masked (`KVCache` doesn't store it), so all rows write the same columns:

        after the prompts "a b c" and "d"     [a b c . . .]     after one more token     [a b c x . .]
        padded left                           [_ _ d . . .]     for each row             [_ _ d y . .]

    Args:
        capacity: C, the maximum number of columns.
        depth: L, the number of layers.
        num_kv_heads: H_kv.
        head_dim: D.
        dtype: Type of keys and values.
        rotary: Rotary positions of the network.
        window: A token sees only the last `window` real tokens, including itself.

    Raises:
        ValueError: A capacity below 1.
    """

    def __init__(
        self,
        capacity: int,
        *,
        depth: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        rotary: RotaryPositions | None,
        window: int | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected at least 1")
        self.capacity = capacity
        self.length = 0
        self._shape = (depth, 2 * num_kv_heads, head_dim)
        self._dtype = dtype
        self._rotary = rotary
        self._window = window
        self._rotations: Tensor | None = None  # complex (C, D/2)
        self._storage: Tensor | None = None  # (L, B, 2 H_kv, C, D), keys first
        self._real: Tensor | None = None  # boolean (B, C), once there is padding

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values; 0 before the first token."""
        return 0 if self._storage is None else self._storage.nbytes

    def extend(self, tokens: Tensor, key_mask: Tensor | None) -> Place:
        """Reserve columns for T new tokens.

        Args:
            tokens: (B, T).
            key_mask: Boolean, (B, T), True = a real token; None if all are.

        Returns:
            Positions, rotation, mask, and the views of each layer.

        Raises:
            ValueError: A full cache; a mask of the wrong shape or type; another number of rows.
        """
        start, stop = self.length, self.length + tokens.shape[1]
        if stop > self.capacity:
            raise ValueError(
                f"the cache is full: its capacity is {self.capacity} tokens, and {stop} are needed"
            )
        if key_mask is not None:
            check_key_mask(key_mask, *tokens.shape)
            key_mask = None if bool(key_mask.all()) else key_mask
        layers = self._rooms(tokens, start, stop)
        if key_mask is not None and self._real is None:
            self._real = torch.ones(tokens.shape[0], self.capacity, dtype=torch.bool, device=tokens.device)
        self.length = stop
        visible = None
        if self._real is None:
            positions = torch.arange(start, stop, device=tokens.device)
            if self._window is not None and stop > self._window:
                visible = visible_keys(positions, stop, is_causal=True, window=self._window)[None, None]
        else:
            self._real[:, start:stop] = True if key_mask is None else key_mask
            real = self._real[:, :stop]
            key_positions = real.cumsum(-1) - 1  # (B, S)
            positions = key_positions[:, start:].clamp(min=0)  # (B, T)
            columns = torch.arange(start, stop, device=tokens.device)
            visible = visible_keys(columns, stop, is_causal=True, window=None) & real[:, None, None]
            if self._window is not None:
                distance = positions[:, :, None] - key_positions[:, None, :]  # (B, T, S)
                visible &= (distance < self._window).unsqueeze(1)
        padding = None if key_mask is None else ~key_mask[:, None, :, None]
        return Place(positions, self._rotation(positions), visible, padding, layers)

    def _rooms(self, tokens: Tensor, start: int, stop: int) -> tuple[Room, ...]:
        """Create the views of all layers at once, because separate slices would cost more than their use."""
        depth, heads, width = self._shape
        if self._storage is None:
            # Zeros, because a masked column is multiplied by weight 0, and 0 × NaN is NaN.
            shape = (depth, tokens.shape[0], heads, self.capacity, width)
            self._storage = torch.zeros(shape, dtype=self._dtype, device=tokens.device)
        if self._storage.shape[1] != tokens.shape[0]:
            raise ValueError(f"{tokens.shape[0]} rows given, but the cache has {self._storage.shape[1]}")
        new = self._storage[:, :, :, start:stop].unbind()
        keys = self._storage[:, :, : heads // 2, :stop].unbind()
        values = self._storage[:, :, heads // 2 :, :stop].unbind()
        return tuple(map(Room, new, keys, values))

    def reorder(self, rows: Tensor) -> None:
        """Replace row i by the former row `rows[i]`, as `KVCache.reorder` does.

        Columns that are padding in all remaining rows are removed.
        """
        if self._storage is not None:
            self._storage = self._storage[:, rows]
        if self._real is None or self._storage is None:
            return
        self._real = self._real[rows]
        used = self._real[:, : self.length].any(0).nonzero().squeeze(-1)  # columns
        if len(used) == self.length:
            return
        self._storage[:, :, :, : len(used)] = self._storage[:, :, :, used]
        self._real[:, : len(used)] = self._real[:, used]
        self._real[:, len(used) :] = True
        self.length = len(used)

    def _rotation(self, positions: Tensor) -> Tensor | None:
        if self._rotary is None:
            return None
        if self._rotations is None:
            every = torch.arange(self.capacity, device=positions.device)
            angles = self._rotary(every, dtype=torch.promote_types(self._dtype, torch.float32))
            self._rotations = torch.complex(angles.cos, angles.sin)
        return self._rotations[positions].unsqueeze(-2)

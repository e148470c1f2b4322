"""What a network laid out for generating remembers: the keys and values of all its layers.

Shape letters: B batch, T new tokens, S tokens so far, C capacity, H_kv key/value heads, D width of a head.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_modules.layers.positional import RotaryPositions
from lit_modules.layers.visibility import check_key_mask, visible_keys


class Place(NamedTuple):
    """Where T new tokens stand, the same for all layers."""

    start: int  # their columns of the cache
    stop: int
    positions: Tensor  # (T,) or (B, T)
    rotation: Tensor | None  # complex, (T, 1, D/2) or (B, T, 1, D/2)
    visible: Tensor | None  # boolean (B, 1, T, S), where rows have padding


class DecodingCache:
    """Keys and values in storage that is allocated once, with a column for each token, padding included.

    Padding is hidden instead of left out (as `KVCache` does), so that every row writes the same columns:

        after the prompts "a b c" and "d"     [a b c . . .]     after one more token     [a b c x . .]
        padded left                           [_ _ d . . .]     for each row             [_ _ d y . .]

    Args:
        capacity: C, the most columns.
        rotary: Of the network.
        dtype: That rotations are computed in.

    Raises:
        ValueError: a capacity below 1.
    """

    def __init__(self, capacity: int, *, rotary: RotaryPositions | None, dtype: torch.dtype) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected at least 1")
        self.capacity = capacity
        self.length = 0
        self._rotary = rotary
        self._dtype = dtype
        self._rotations: Tensor | None = None  # complex (C, D/2)
        self._storage: list[Tensor] = []  # of each layer (B, 2 H_kv, C, D)
        self._real: Tensor | None = None  # boolean (B, C), once there is padding

    def extend(self, tokens: Tensor, key_mask: Tensor | None) -> Place:
        """Makes room for T new tokens.

        Args:
            tokens: (B, T).
            key_mask: Boolean (B, T), True = a real token; None if all are.

        Raises:
            ValueError: there is no room; a mask of another shape or type.
        """
        start, stop = self.length, self.length + tokens.shape[1]
        if stop > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens a row, and row length {stop} is needed")
        if key_mask is not None:
            check_key_mask(key_mask, *tokens.shape)
            key_mask = None if bool(key_mask.all()) else key_mask
        if key_mask is not None and self._real is None:
            self._real = torch.ones(tokens.shape[0], self.capacity, dtype=torch.bool, device=tokens.device)
        self.length = stop
        visible = None
        if self._real is None:
            positions = torch.arange(start, stop, device=tokens.device)
        else:
            self._real[:, start:stop] = True if key_mask is None else key_mask
            real = self._real[:, :stop]
            positions = (real.cumsum(-1)[:, start:] - 1).clamp(min=0)  # (B, T)
            columns = torch.arange(start, stop, device=tokens.device)
            visible = visible_keys(columns, stop, is_causal=True, window=None) & real[:, None, None]
        return Place(start, stop, positions, self._rotation(positions), visible)

    def store(self, layer: int, keys_and_values: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """Keeps T new tokens' keys and values.

        Args:
            layer: Its number; the first call goes through them in order.
            keys_and_values: (B, T, 2 H_kv, D), keys first.
            place: From `extend`.

        Returns:
            All keys and all values of the layer so far, (B, H_kv, S, D) each.
        """
        if layer == len(self._storage):
            batch, _, heads, width = keys_and_values.shape
            # Zeros, because a hidden column still enters a product with weight 0, and 0 × NaN is NaN.
            self._storage.append(keys_and_values.new_zeros(batch, heads, self.capacity, width))
        storage = self._storage[layer]
        storage[:, :, place.start : place.stop] = keys_and_values.transpose(1, 2)
        half = storage.shape[1] // 2
        return storage[:, :half, : place.stop], storage[:, half:, : place.stop]

    def reorder(self, rows: Tensor) -> None:
        """Makes row i a copy of the former row `rows[i]`, as `KVCache.reorder`.

        Columns that are padding in every row that is left are given up: their longest one had gone.
        """
        self._storage = [storage[rows] for storage in self._storage]
        if self._real is None:
            return
        self._real = self._real[rows]
        used = self._real[:, : self.length].any(0).nonzero().squeeze(-1)  # columns
        if len(used) == self.length:
            return
        for storage in [*self._storage, self._real[:, None, :, None]]:
            storage[:, :, : len(used)] = storage[:, :, used]
        self._real[:, len(used) :] = True
        self.length = len(used)

    def _rotation(self, positions: Tensor) -> Tensor | None:
        if self._rotary is None:
            return None
        if self._rotations is None:
            every = torch.arange(self.capacity, device=positions.device)
            angles = self._rotary(every, dtype=self._dtype)
            self._rotations = torch.complex(angles.cos, angles.sin)
        return self._rotations[positions].unsqueeze(-2)

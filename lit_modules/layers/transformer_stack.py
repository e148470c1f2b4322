"""Stacks of transformer layers: an encoder (or the causal trunk of a language model) and a decoder.

Shape letters: B batch, T tokens, S tokens of the context, W width of the model.
"""

from collections.abc import Iterator

import torch.nn as nn
from torch import Tensor

from lit_modules.configs.transformer import TransformerConfig
from lit_modules.layers.kv_cache import DecoderLayerCache, KVCache, token_positions
from lit_modules.layers.positional import RotaryPositions, Rotation
from lit_modules.layers.transformer_layer import DecoderLayer, EncoderLayer, build_norm, build_rotary


class Encoder(nn.Module):
    """Encoder layers and, for pre-norm layers, a final norm.

    The output of a layer is a tensor, so a forward hook on `layers[i]` can read or change the hidden states.

    Args:
        config: Depth, and the settings that all layers share.
        is_causal: Whether tokens see only earlier tokens and themselves.
        final_norm: Whether a norm follows the last layer; `config.norm_first` by default.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        is_causal: bool = False,
        final_norm: bool | None = None,
    ) -> None:
        super().__init__()
        self.rotary = build_rotary(config)
        self.layers = nn.ModuleList(
            EncoderLayer(config, is_causal=is_causal, rotary=rotary)
            for rotary in _rotary_of_layers(self.rotary, config)
        )
        with_norm = config.norm_first if final_norm is None else final_norm
        self.final_norm: nn.Module = build_norm(config) if with_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: list[KVCache] | None = None,
        hidden_states: list[Tensor] | None = None,
    ) -> Tensor:
        """Encode T tokens.

        Args:
            x: Embeddings, (B, T, W).
            mask: Boolean, (T, S) or broadcastable to (B, H, T, S), True = may be attended.
            key_mask: Boolean, (B, T), True = a real token.
            positions: (T,) or (B, T), for the rotation; see `token_positions` for the default.
            cache: From `make_cache`, one for each layer; T is then the number of new tokens.
            hidden_states: A list that receives `x` and the output of each layer, depth + 1 tensors (B, T, W);
                the last one is taken before the final norm.

        Returns:
            (B, T, W).
        """
        rotation = _rotation(self.rotary, x, key_mask, positions, None if cache is None else cache[0])
        caches = [None] * len(self.layers) if cache is None else cache
        _record(hidden_states, x)
        for layer, own in zip(self.layers, caches, strict=True):
            x = layer(x, mask=mask, key_mask=key_mask, rotation=rotation, cache=own)
            _record(hidden_states, x)
        return self.final_norm(x)

    def make_cache(self, capacity: int) -> list[KVCache]:
        """Make one empty cache for each layer, for rows of at most `capacity` tokens."""
        return [KVCache(capacity) for _ in self.layers]


class Decoder(nn.Module):
    """Decoder layers and, for pre-norm layers, a final norm.

    Args:
        config: Depth, and the settings that all layers share.
        final_norm: Whether a norm follows the last layer; `config.norm_first` by default.
    """

    def __init__(self, config: TransformerConfig, *, final_norm: bool | None = None) -> None:
        super().__init__()
        self.rotary = build_rotary(config)
        self.layers = nn.ModuleList(
            DecoderLayer(config, rotary=rotary) for rotary in _rotary_of_layers(self.rotary, config)
        )
        with_norm = config.norm_first if final_norm is None else final_norm
        self.final_norm: nn.Module = build_norm(config) if with_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        key_mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: list[DecoderLayerCache] | None = None,
        hidden_states: list[Tensor] | None = None,
    ) -> Tensor:
        """Decode T tokens of the target.

        Args:
            x: Embeddings of the target, (B, T, W).
            context: Output of the encoder, (B, S, W); optional once the cache holds it.
            key_mask: Boolean, (B, T), True = a real token of the target.
            context_mask: Boolean, (B, S), True = a real token of the context.
            positions: (T,) or (B, T), for the rotation; see `token_positions` for the default.
            cache: From `make_cache`, one for each layer; T is then the number of new tokens.
            hidden_states: A list that receives `x` and the output of each layer, depth + 1 tensors (B, T, W).

        Returns:
            (B, T, W).
        """
        rotation = _rotation(
            self.rotary, x, key_mask, positions, None if cache is None else cache[0].self_attention
        )
        caches = [None] * len(self.layers) if cache is None else cache
        _record(hidden_states, x)
        for layer, own in zip(self.layers, caches, strict=True):
            x = layer(x, context, key_mask=key_mask, context_mask=context_mask, rotation=rotation, cache=own)
            _record(hidden_states, x)
        return self.final_norm(x)

    def make_cache(self, capacity: int) -> list[DecoderLayerCache]:
        """Make one empty cache for each layer, for targets of at most `capacity` tokens."""
        return [DecoderLayerCache(capacity) for _ in self.layers]


def _rotary_of_layers(
    rotary: RotaryPositions | None, config: TransformerConfig
) -> Iterator[RotaryPositions | None]:
    """Yield the rotary positions of each layer: the shared ones, or none in every n-th layer."""
    for layer in range(1, config.depth + 1):
        is_left_out = config.unrotated_every is not None and layer % config.unrotated_every == 0
        yield None if is_left_out else rotary


def _rotation(
    rotary: RotaryPositions | None,
    x: Tensor,
    key_mask: Tensor | None,
    positions: Tensor | None,
    cache: KVCache | None,
) -> Rotation | None:
    """Compute the rotation once for all layers."""
    if rotary is None:
        return None
    if positions is None:
        positions = token_positions(x.shape[1], key_mask=key_mask, cache=cache, device=x.device)
    return rotary(positions, dtype=x.dtype)


def _record(hidden_states: list[Tensor] | None, x: Tensor) -> None:
    if hidden_states is not None:
        hidden_states.append(x)

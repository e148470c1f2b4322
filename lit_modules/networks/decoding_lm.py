"""A transformer language model optimised for generation: same weights and logits, less work per token.

Generating one token takes hundreds of small operations, and each matrix is read once. So matrices that are
used together are packed together, and the layout is computed once:

    query, key, value   one matrix (also gate and up of SwiGLU), which halves the number of products
    rotation            rows of a rotary pair are adjacent in W_q and W_k: one complex product rotates all
    keys and values     one buffer for each layer, written in place
    residual stream     fp32 around half-precision products, so norms need no conversion

Shape letters: B batch, T new tokens, S tokens so far, V vocabulary, W width, H and H_kv query and key/value
heads, G = H / H_kv, D width of a head.
"""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from lit_modules.layers.argument_checks import check_choice
from lit_modules.layers.attention import Attention
from lit_modules.layers.embedding import embed
from lit_modules.layers.fast_linear import fast_linear
from lit_modules.layers.feed_forward import FeedForward, SwiGLU
from lit_modules.layers.int8_linear import Int8Linear, int8_linear
from lit_modules.layers.norm import LayerNorm, RMSNorm
from lit_modules.layers.scaled_dot_product import scaled_dot_product_attention
from lit_modules.layers.transformer_layer import EncoderLayer
from lit_modules.networks.decoding_cache import DecodingCache, Place, Room
from lit_modules.networks.transformer_lm import TransformerLM

DecodingWeights = Literal["as_they_are", "int8"]
Map = Callable[[Tensor], Tensor]
MakeLinear = Callable[[Tensor, Tensor | None], Map]


class DecodingLM(nn.Module):
    """A copy of a `TransformerLM` with the same call, but without gradients, dropout and hidden states.

    The matrices are copies: the original may be deleted, and later training of it has no effect here. The
    module can't be moved or saved; build it on the device that runs it.

    Args:
        network: The network to copy. The copy always uses fused kernels.
        weights: `as_they_are`, or `int8`: all matrices but the embedding in 8 bits, the rest in bf16.

    Attributes:
        bytes_per_token: Size of the matrices; each is read once per token.
    """

    def __init__(self, network: TransformerLM, *, weights: DecodingWeights = "as_they_are") -> None:
        super().__init__()
        check_choice("weights", weights, DecodingWeights)
        dtype = network.embedding.weight.dtype
        stream = torch.promote_types(dtype, torch.float32)
        self.vocab_size = network.vocab_size
        self.context_length = network.context_length
        self.embedding = network.embedding
        # A bound method of the network would keep all its matrices alive.
        self._embed = partial(embed, embedding=network.embedding, added=network.positions)
        self._stream = stream
        self._dtype = torch.bfloat16 if weights == "int8" else dtype
        self.bytes_per_token = 0

        def linear(weight: Tensor, bias: Tensor | None) -> Map:
            if weights == "int8":
                layer = Int8Linear(weight, bias)
                self.bytes_per_token += layer.weight.nbytes
                return partial(int8_linear, weight=layer.weight, scale=layer.scale, bias=layer.bias)
            self.bytes_per_token += weight.nbytes
            return fast_linear(weight, bias)

        self._layers = [
            _Layer(layer, linear, self._dtype, stream)
            for layer in network.trunk.layers
            if isinstance(layer, EncoderLayer)
        ]
        self._final_norm = _norm(network.trunk.final_norm, stream)
        self._head = linear(network.head.weight, None)
        attention = self._layers[0].attend
        # On a CPU attention is faster in fp32 than in half precision, unless the cache is huge.
        on_cpu = network.embedding.weight.device.type == "cpu"
        self._new_cache = partial(
            DecodingCache,
            depth=len(self._layers),
            num_kv_heads=attention.kv_heads,
            head_dim=attention.head_dim,
            dtype=stream if on_cpu else self._dtype,
            rotary=network.trunk.rotary,
            window=attention.window,
        )

    def make_cache(self, capacity: int) -> list[DecodingCache]:
        """Make a list of one empty cache for all layers, for rows of at most `capacity` tokens."""
        return [self._new_cache(capacity)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "DecodingLM":
        """Refuse `to`, `half`, `cuda` and so on, which all call this."""
        raise ValueError("a DecodingLM can't be moved or converted; move the original network first")

    @torch.no_grad()
    def forward(
        self,
        tokens: Tensor,
        *,
        key_mask: Tensor | None = None,
        cache: list[DecodingCache] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Compute logits (B, T, V), or (B, 1, V), of tokens (B, T) as `TransformerLM.forward` does.

        Raises:
            ValueError: Positions beyond the learned ones; a full cache.
        """
        memory = self._new_cache(tokens.shape[1]) if cache is None else cache[0]
        place = memory.extend(tokens, key_mask)
        batch, length = tokens.shape
        x = self._embed(tokens, place.positions).to(self._stream).flatten(0, 1)  # (B · T, W)
        for layer, room in zip(self._layers, place.layers, strict=True):
            x = layer(x, place, room)
        if last_only:
            x = x.view(batch, length, -1)[:, -1]  # (B, W)
        return self._head(self._final_norm(x).to(self._dtype)).view(batch, -1, self.vocab_size)


class _Layer:
    """The packed weights of an `EncoderLayer`."""

    def __init__(
        self, layer: EncoderLayer, linear: MakeLinear, dtype: torch.dtype, stream: torch.dtype
    ) -> None:
        self.dtype = dtype
        self.norm_first = layer.norm_first
        self.attend = _Attend(layer.attention, linear)
        self.feed = _feed_forward(layer.feed_forward, linear)
        self.attention_norm = _norm(layer.attention_norm, stream)
        self.feed_forward_norm = _norm(layer.feed_forward_norm, stream)

    def __call__(self, x: Tensor, place: Place, room: Room) -> Tensor:
        """Map (B · T, W) to (B · T, W), in the dtype of the residual stream."""
        if self.norm_first:
            x = x + self.attend(self.attention_norm(x).to(self.dtype), place, room)
            return x + self.feed(self.feed_forward_norm(x).to(self.dtype))
        x = self.attention_norm(x + self.attend(x.to(self.dtype), place, room))
        return self.feed_forward_norm(x + self.feed(x.to(self.dtype)))


class _Attend:
    """Causal self-attention with one product for queries, keys and values."""

    def __init__(self, attention: Attention, linear: MakeLinear) -> None:
        self.window = attention.window
        self.kv_heads = attention.num_kv_heads
        self.head_dim = attention.head_dim
        self.heads = attention.num_heads
        self.turned = self.heads + self.kv_heads
        # The dot product of query and key doesn't depend on the order of the channels.
        rotary, head_dim = attention.rotary, attention.head_dim
        self.rotates = rotary is not None
        pairs = torch.arange(head_dim, device=attention.query.weight.device)
        if rotary is not None and rotary.layout == "half_split":
            pairs = pairs.view(2, -1).T.flatten()  # 0, D/2, 1, D/2 + 1 …
        rows = [
            attention.query.weight.unflatten(0, (-1, head_dim))[:, pairs].flatten(0, 1),
            attention.key.weight.unflatten(0, (-1, head_dim))[:, pairs].flatten(0, 1),
            attention.value.weight,
        ]
        bias = None
        if attention.query.bias is not None:
            turned = [
                b.unflatten(0, (-1, head_dim))[:, pairs].flatten()
                for b in (attention.query.bias, attention.key.bias)
            ]
            bias = torch.cat([*turned, attention.value.bias])
        self.project = linear(torch.cat(rows), bias)
        self.output = linear(attention.output.weight, attention.output.bias)
        self.gain: Tensor | None = None
        if attention.query_norm is not None and attention.key_norm is not None:
            self.eps = attention.query_norm.eps
            gains = [attention.query_norm.weight[pairs].expand(self.heads, -1)]
            gains.append(attention.key_norm.weight[pairs].expand(self.kv_heads, -1))
            self.gain = torch.cat(gains).detach()  # (H + H_kv, D)

    def __call__(self, x: Tensor, place: Place, room: Room) -> Tensor:
        """Map (B · T, W) to (B · T, W)."""
        batch, _, length, _ = room.new.shape
        heads = self.project(x).view(batch, length, self.turned + self.kv_heads, self.head_dim)
        heads = heads.to(room.new.dtype)  # (B, T, H + 2 H_kv, D)
        queries_and_keys = heads[:, :, : self.turned]
        if self.gain is not None:
            normed = F.rms_norm(queries_and_keys, self.gain.shape[1:], None, self.eps)
            queries_and_keys.copy_(normed * self.gain)
        if self.rotates and place.rotation is not None:
            _rotate(queries_and_keys, place.rotation)
        room.new.copy_(heads[:, :, self.heads :].transpose(1, 2))
        if place.padding is not None:
            room.new.masked_fill_(place.padding, 0)  # a hidden NaN would reach the output: 0 × NaN is NaN
        if length == 1:  # the group dim replaces the time dim: each key is read once
            query = heads[:, 0, : self.heads].view(batch, self.kv_heads, -1, self.head_dim)  # (B, H_kv, G, D)
            attended = F.scaled_dot_product_attention(query, room.keys, room.values, attn_mask=place.visible)
        else:
            attended = scaled_dot_product_attention(
                heads[:, :, : self.heads].transpose(1, 2),
                room.keys,
                room.values,
                mask=place.visible,
                is_causal=True,
            ).transpose(1, 2)  # (B, T, H, D)
        return self.output(attended.reshape(x.shape[0], -1).to(x.dtype))


def _rotate(x: Tensor, rotation: Tensor) -> None:
    """Rotate pairs of adjacent channels of (B, T, heads, D) in place."""
    wide = x if x.dtype == rotation.real.dtype else x.to(rotation.real.dtype)
    torch.view_as_complex(wide.view(*wide.shape[:-1], -1, 2)).mul_(rotation)
    if wide is not x:
        x.copy_(wide)


def _feed_forward(module: nn.Module, linear: MakeLinear) -> Map:
    if isinstance(module, SwiGLU):
        biased = module.gate.bias is not None
        both = linear(
            torch.cat([module.gate.weight, module.up.weight]),
            torch.cat([module.gate.bias, module.up.bias]) if biased else None,
        )
        down = linear(module.down.weight, module.down.bias)

        def gated(x: Tensor) -> Tensor:
            gate, up = both(x).chunk(2, dim=-1)  # (B · T, F)
            return down(F.silu(gate).mul_(up))

        return gated
    assert isinstance(module, FeedForward)
    activation = module.activation
    first, second = (linear(part.weight, part.bias) for part in (module.up, module.down))
    return lambda x: second(activation(first(x)))


def _norm(module: nn.Module, dtype: torch.dtype) -> Map:
    if isinstance(module, RMSNorm) and module.bias is None and module.num_measured == module.num_features:
        width = module.num_features
        gain = module.weight.detach().to(dtype) * math.sqrt(width)
        root = torch.tensor(math.sqrt(width * module.eps), dtype=dtype, device=gain.device)
        return partial(_rms_norm, gain=gain, root=root)
    if isinstance(module, LayerNorm):
        weight = module.weight.detach().to(dtype)
        bias = None if module.bias is None else module.bias.detach().to(dtype)
        return partial(F.layer_norm, normalized_shape=weight.shape, weight=weight, bias=bias, eps=module.eps)
    return copy.deepcopy(module).to(dtype)  # a partial or biased RMS norm, or no norm


def _rms_norm(x: Tensor, gain: Tensor, root: Tensor) -> Tensor:
    """Compute x / √(mean(x²) + ε) for x (N, W) in four operations; gain is √W · weight (W,), root √(W ε)."""
    return x * (gain / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), root))

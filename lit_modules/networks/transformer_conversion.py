"""Convert PyTorch's attention, transformer layers and stacks to ours, with the same weights and outputs.

Three conventions differ. PyTorch takes causality as an argument of the call, ours of the constructor. In
PyTorch's masks True means blocked, in ours True means may be attended. Ours always have the batch first.
"""

from typing import cast

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from lit_modules.configs.transformer import FeedForwardActivation, TransformerConfig
from lit_modules.layers.attention import Attention
from lit_modules.layers.norm import LayerNorm
from lit_modules.layers.transformer_layer import DecoderLayer, EncoderLayer
from lit_modules.layers.transformer_stack import Decoder, Encoder


def attention_from_torch(source: nn.MultiheadAttention, *, is_causal: bool = False) -> Attention:
    """Convert an `nn.MultiheadAttention`.

    Args:
        source: `kdim` and `vdim` must be equal.
        is_causal: Whether tokens see only earlier tokens and themselves.

    Raises:
        ValueError: `kdim` ≠ `vdim`, `add_bias_kv` or `add_zero_attn`, which ours doesn't support.
    """
    if source.kdim != source.vdim:
        raise ValueError(f"kdim {source.kdim} and vdim {source.vdim} differ; they must be equal")
    target = Attention(
        source.embed_dim,
        num_heads=source.num_heads,
        context_width=None if source.kdim == source.embed_dim else source.kdim,
        bias=source.in_proj_bias is not None,
        dropout=source.dropout,
        is_causal=is_causal,
    )
    _copy_attention(target, source)
    return target.train(source.training)


def encoder_layer_from_torch(source: nn.TransformerEncoderLayer, *, is_causal: bool = False) -> EncoderLayer:
    """Convert an `nn.TransformerEncoderLayer`.

    Args:
        source: A layer with ReLU or GELU.
        is_causal: Whether tokens see only earlier tokens and themselves.

    Raises:
        ValueError: Another activation; for the rest see `attention_from_torch`.
    """
    target = EncoderLayer(_config(source), is_causal=is_causal)
    _copy_encoder_layer(target, source)
    return target.train(source.training)


def decoder_layer_from_torch(source: nn.TransformerDecoderLayer) -> DecoderLayer:
    """Convert an `nn.TransformerDecoderLayer` to a causal one.

    Raises:
        ValueError: See `encoder_layer_from_torch`.
    """
    target = DecoderLayer(_config(source))
    _copy_decoder_layer(target, source)
    return target.train(source.training)


def encoder_from_torch(source: nn.TransformerEncoder, *, is_causal: bool = False) -> Encoder:
    """Convert an `nn.TransformerEncoder` with its layers and final norm.

    Raises:
        ValueError: A norm that isn't an `nn.LayerNorm`; for the rest see `encoder_layer_from_torch`.
    """
    layers = [cast(nn.TransformerEncoderLayer, layer) for layer in source.layers]
    final_norm = source.norm is not None
    target = Encoder(_config(layers[0], depth=len(layers)), is_causal=is_causal, final_norm=final_norm)
    for ours, theirs in zip(target.layers, layers, strict=True):
        _copy_encoder_layer(cast(EncoderLayer, ours), theirs)
    if source.norm is not None:
        _copy_norm(target.final_norm, source.norm)
    return target.train(source.training)


def decoder_from_torch(source: nn.TransformerDecoder) -> Decoder:
    """Convert an `nn.TransformerDecoder` with its layers and final norm to a causal one.

    Raises:
        ValueError: See `encoder_from_torch`.
    """
    layers = [cast(nn.TransformerDecoderLayer, layer) for layer in source.layers]
    target = Decoder(_config(layers[0], depth=len(layers)), final_norm=source.norm is not None)
    for ours, theirs in zip(target.layers, layers, strict=True):
        _copy_decoder_layer(cast(DecoderLayer, ours), theirs)
    if source.norm is not None:
        _copy_norm(target.final_norm, source.norm)
    return target.train(source.training)


def _config(
    source: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer, *, depth: int = 1
) -> TransformerConfig:
    return TransformerConfig(
        depth=depth,
        position="none",
        width=source.linear1.in_features,
        num_heads=source.self_attn.num_heads,
        feed_forward_width=source.linear1.out_features,
        feed_forward=_activation_name(source.activation),
        norm_first=source.norm_first,
        norm_eps=source.norm1.eps,
        bias=source.linear1.bias is not None,
        dropout=source.dropout1.p,
        hidden_dropout=source.dropout.p,
        attention_dropout=source.self_attn.dropout,
    )


def _activation_name(activation: object) -> FeedForwardActivation:
    if activation is F.relu or isinstance(activation, nn.ReLU):
        return "relu"
    if activation is F.gelu:
        return "gelu"
    if isinstance(activation, nn.GELU):
        return "gelu" if activation.approximate == "none" else "gelu_tanh"
    raise ValueError(f"activation {activation} isn't ReLU or GELU")


def _copy_encoder_layer(target: EncoderLayer, source: nn.TransformerEncoderLayer) -> None:
    _copy_attention(target.attention, source.self_attn)
    _copy_norm(target.attention_norm, source.norm1)
    _copy_linear(target.feed_forward.up, source.linear1.weight, source.linear1.bias)
    _copy_linear(target.feed_forward.down, source.linear2.weight, source.linear2.bias)
    _copy_norm(target.feed_forward_norm, source.norm2)


def _copy_decoder_layer(target: DecoderLayer, source: nn.TransformerDecoderLayer) -> None:
    _copy_attention(target.self_attention, source.self_attn)
    _copy_norm(target.self_attention_norm, source.norm1)
    _copy_attention(target.cross_attention, source.multihead_attn)
    _copy_norm(target.cross_attention_norm, source.norm2)
    _copy_linear(target.feed_forward.up, source.linear1.weight, source.linear1.bias)
    _copy_linear(target.feed_forward.down, source.linear2.weight, source.linear2.bias)
    _copy_norm(target.feed_forward_norm, source.norm3)


def _copy_attention(target: Attention, source: nn.MultiheadAttention) -> None:
    if source.bias_k is not None or source.add_zero_attn:
        raise ValueError("add_bias_kv and add_zero_attn aren't supported")
    if source.in_proj_weight is not None:
        weights = source.in_proj_weight.chunk(3)
    else:  # kdim differs from embed_dim
        weights = (source.q_proj_weight, source.k_proj_weight, source.v_proj_weight)
    biases = (None,) * 3 if source.in_proj_bias is None else source.in_proj_bias.chunk(3)
    for linear, weight, bias in zip((target.query, target.key, target.value), weights, biases, strict=True):
        _copy_linear(linear, weight, bias)
    _copy_linear(target.output, source.out_proj.weight, source.out_proj.bias)


def _copy_linear(target: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    target.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        target.bias = nn.Parameter(bias.detach().clone())


def _copy_norm(target: nn.Module, source: nn.Module) -> None:
    if not isinstance(source, nn.LayerNorm) or not source.elementwise_affine:
        raise ValueError(f"expected an nn.LayerNorm with weights, got {source}")
    norm = cast(LayerNorm, target)
    norm.eps = source.eps
    norm.weight = nn.Parameter(source.weight.detach().clone())
    norm.bias = None if source.bias is None else nn.Parameter(source.bias.detach().clone())

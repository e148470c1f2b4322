"""Flash attention in Triton: the algorithm of `flash_attention`, with each pass as one or two GPU kernels.

Shape letters: B batch, H query heads, H_kv key/value heads, T queries, S keys, D head width, D_v width of a
value.
"""

import itertools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from lit_modules.configs.transformer import TRITON_HEAD_WIDTH
from lit_modules.layers.visibility import check_attention_shapes, clear_hidden_keys

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Attended(NamedTuple):
    """The result of attention, and the log-sum-exp of the scores of each query."""

    output: Tensor  # (B, H, T, D_v)
    lse: Tensor  # (B, H, T), fp32, natural logarithm


def triton_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
) -> Attended:
    """Compute softmax(Q Kᵀ · scale) V and log Σ exp(Q Kᵀ · scale) on a GPU.

    The rules are those of `scaled_dot_product_attention`. Both results have gradients, but no second
    derivatives. Two attentions over different keys can be merged by their log-sum-exps.

    The arguments are those of `scaled_dot_product_attention`. A mask of keys only, (B, 1, 1, S), is read once
    for each key. The scale must be above 0.

    Returns:
        The output, in the type of the query, and the log-sum-exp. A query without visible keys has zeros and
        −inf.

    Raises:
        ValueError: Shapes that don't match; a mask that isn't boolean; D or D_v above 128; fp64; a device
            without Triton.
    """
    check_attention_shapes(query, key, value, mask, window)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    width = max(query.shape[-1], value.shape[-1])
    if width > TRITON_HEAD_WIDTH:
        raise ValueError(f"implementation 'triton' has heads up to {TRITON_HEAD_WIDTH} wide, got {width}")
    if not scale > 0:
        raise ValueError(f"implementation 'triton' needs a scale above 0, got {scale}")
    dtype = query.dtype
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
    if dtype not in DTYPES:
        raise ValueError(f"implementation 'triton' computes in fp32, bf16 or fp16, got {dtype}")
    key, value = clear_hidden_keys(mask, key, value)
    if mask is not None:
        mask = mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    output, lse = _TritonAttention.apply(
        *(_rows_contiguous(x.to(dtype)) for x in (query, key, value)), mask, is_causal, window, scale
    )
    return Attended(output.to(query.dtype), lse)


class _Tiles(NamedTuple):
    """Sides of a tile, (t, s); groups of 32 threads of a program; tiles in its pipeline of loads."""

    block_t: int
    block_s: int
    warps: int
    stages: int


# By half precision and width above 64. They fit the 99 KB of shared memory that each GPU from Ampere on has
# at least, and the registers of an H100 in half precision. They are fixed, because a search for the fastest
# tiles would make the bits of a run depend on the clock.
_TILES = {
    "forward": {
        (True, False): _Tiles(64, 64, 4, 4),
        (True, True): _Tiles(64, 32, 4, 3),
        (False, False): _Tiles(64, 32, 4, 2),
        (False, True): _Tiles(64, 32, 8, 1),
    },
    "query_gradient": {
        (True, False): _Tiles(64, 64, 4, 3),
        (True, True): _Tiles(64, 32, 4, 3),
        (False, False): _Tiles(64, 32, 4, 1),
        (False, True): _Tiles(32, 32, 4, 1),
    },
    "key_value_gradient": {
        (True, False): _Tiles(64, 64, 4, 2),
        (True, True): _Tiles(32, 64, 4, 2),
        (False, False): _Tiles(32, 32, 4, 1),
        (False, True): _Tiles(16, 32, 4, 1),
    },
}


def _tiles(kernel: str, query: Tensor, value: Tensor) -> _Tiles:
    return _TILES[kernel][query.dtype != torch.float32, max(query.shape[-1], value.shape[-1]) > 64]


class _TritonAttention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        is_causal: bool,
        window: int | None,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        kernels = _kernels(query.device)
        batch, heads, num_queries, _ = query.shape
        output = _heads_last(value, heads, num_queries)
        lse = query.new_empty((batch, heads, num_queries), dtype=torch.float32)
        settings = _settings(query, key, value, mask, is_causal, window, scale)
        tiles = _tiles("forward", query, value)
        kernels.forward_kernel[_grid(num_queries, tiles.block_t, batch * heads)](
            query, key, value, _bytes(mask, query), output, lse, *settings.strides, *settings.sizes,
            **settings.constants, **_launch(tiles),
        )  # fmt: skip
        ctx.save_for_backward(query, key, value, mask, output, lse)
        ctx.rules = (is_causal, window, scale)
        return output, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, output, lse = ctx.saved_tensors
        kernels = _kernels(query.device)
        batch, heads, num_queries, _ = query.shape
        kv_heads, num_keys = key.shape[1:3]
        grad_output = _rows_contiguous(grad_output)
        delta = torch.empty_like(lse)
        grad_query = _heads_last(query, heads, num_queries)
        grad_key, grad_value = (_heads_last(x, kv_heads, num_keys) for x in (key, value))
        settings = _settings(query, key, value, mask, *ctx.rules)
        strides = (*settings.strides, *grad_output.stride()[:3])
        tiles = _tiles("query_gradient", query, value)
        kernels.query_gradient_kernel[_grid(num_queries, tiles.block_t, batch * heads)](
            query, key, value, _bytes(mask, query), output, lse, grad_output, grad_lse.contiguous(), delta,
            grad_query, *strides, *settings.sizes, **settings.constants, **_launch(tiles),
        )  # fmt: skip
        tiles = _tiles("key_value_gradient", query, value)
        kernels.key_value_gradient_kernel[_grid(num_keys, tiles.block_s, batch * kv_heads)](
            query, key, value, _bytes(mask, query), lse, grad_output, delta, grad_key, grad_value,
            *strides, *settings.sizes, **settings.constants, **_launch(tiles),
        )  # fmt: skip
        return grad_query, grad_key, grad_value, None, None, None, None


class _Settings(NamedTuple):
    """The arguments that all kernels share."""

    strides: tuple[int, ...]
    sizes: tuple[Any, ...]
    constants: dict[str, Any]


def _settings(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    window: int | None,
    scale: float,
) -> _Settings:
    kind = "none" if mask is None else "keys" if mask.stride(2) == 0 else "full"
    strides = (
        query.stride()[:3],
        key.stride()[:3],
        value.stride()[:3],
        (0,) * 4 if mask is None else mask.stride(),
    )
    sizes = (query.shape[1], query.shape[1] // key.shape[1], query.shape[2], key.shape[2])
    width, value_width = query.shape[-1], value.shape[-1]
    return _Settings(
        strides=tuple(itertools.chain(*strides)),
        sizes=(*sizes, window or 0, scale * math.log2(math.e)),
        constants={
            "D": width,
            "D_V": value_width,
            "D_PAD": _padded(width),
            "D_V_PAD": _padded(value_width),
            "IS_CAUSAL": is_causal,
            "HAS_WINDOW": window is not None,
            "MASK": kind,
        },
    )


def _bytes(mask: Tensor | None, unread: Tensor) -> Tensor:
    """Return the mask as bytes; without a mask, any tensor, because no kernel reads it."""
    return unread if mask is None else mask.view(torch.uint8)


def _padded(width: int) -> int:
    """Return the next power of two, at least the 16 columns of a tensor core."""
    return max(16, 1 << (width - 1).bit_length())


def _launch(tiles: _Tiles) -> dict[str, int]:
    block_t, block_s, warps, stages = tiles
    return {"BLOCK_T": block_t, "BLOCK_S": block_s, "num_warps": warps, "num_stages": stages}


def _grid(length: int, block: int, planes: int) -> tuple[int]:
    """Return the number of programs: the blocks of all heads of all rows of the batch."""
    return (-(-length // block) * planes,)


def _heads_last(like: Tensor, heads: int, length: int) -> Tensor:
    """Make an empty (B, heads, length, D) in the order (B, length, heads, D), which joins heads as a view."""
    return like.new_empty((like.shape[0], length, heads, like.shape[-1])).transpose(1, 2)


def _rows_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _kernels(device: torch.device) -> Any:
    """Import the kernels.

    Raises:
        ValueError: Triton is not installed, or can't run on this device.
    """
    try:
        from lit_modules.layers import attention_kernels
    except ModuleNotFoundError as error:
        raise ValueError(f"implementation 'triton' needs the package triton: {error}") from error
    if device.type != "cuda" and not attention_kernels.INTERPRETED:
        raise ValueError(
            f"implementation 'triton' needs a CUDA GPU, but the tensors are on {device.type}; "
            "use 'fused', 'by_hand' or 'tiled'"
        )
    return attention_kernels

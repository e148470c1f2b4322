import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lit_modules.layers.flash_attention import flash_attention


def heads(queries: int, keys: int, *, kv: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(queries + 10 * keys)
    shapes = [(2, 4, queries, 4), (2, kv, keys, 4), (2, kv, keys, 3)]
    return [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes]


@pytest.mark.parametrize("block_size", [1, 2, 3, 100])
@pytest.mark.parametrize("is_causal", [False, True])
def test_every_tiling_equals_pytorch(block_size: int, is_causal: bool):
    """Lengths that are, and are not, a multiple of the tile; T below, at and above S."""
    for queries, keys in itertools.product((1, 4, 7), (1, 6, 7)):
        inputs = heads(queries, keys)
        visible = torch.ones(queries, keys, dtype=torch.bool)
        if is_causal:
            visible = visible.tril(keys - queries)
        key, value = (x.repeat_interleave(2, dim=1) for x in inputs[1:])
        theirs = F.scaled_dot_product_attention(inputs[0], key, value, attn_mask=visible)
        ours = flash_attention(*inputs, is_causal=is_causal, block_size=block_size)
        cotangent = torch.arange(ours.numel(), dtype=ours.dtype).sin().view_as(ours)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(
            torch.autograd.grad((ours * cotangent).sum(), inputs),
            torch.autograd.grad((theirs * cotangent).sum(), inputs),
            rtol=1e-10,
            atol=1e-12,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"is_causal": True},
        {"window": 2},
        {"is_causal": True, "window": 2, "scale": 0.3},
        {
            "mask": torch.tensor([[True, False, True, True, False], [False, False, False, False, False]])[
                :, None, None
            ]
        },
    ],
)
def test_gradcheck(rules: dict[str, Any]):
    assert torch.autograd.gradcheck(
        lambda *inputs: flash_attention(*inputs, **rules, block_size=2), heads(3, 5)
    )


def test_only_inputs_output_and_one_number_a_query_are_saved():
    saved: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        saved.append(x)
        return x

    inputs = heads(40, 40, kv=4)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = flash_attention(*inputs, is_causal=True, block_size=8)
    sizes = sorted(x.numel() for x in saved)
    log_sum_exp = 2 * 4 * 40
    assert sizes == sorted([*(x.numel() for x in inputs), output.numel(), log_sum_exp])


class LargestStorage(TorchDispatchMode):
    """Remembers the size in bytes of the largest storage that any operation made or used."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.size = max(self.size, result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("masked", [False, True])
def test_nothing_grows_with_the_square_of_the_length(masked: bool):
    """With T × S scores the largest storage of 256 tokens would be 16 times that of 64."""
    largest = []
    for length in (64, 256):
        inputs = heads(length, length, kv=4)
        mask = torch.ones(2, 1, 1, length, dtype=torch.bool) if masked else None
        with LargestStorage() as seen:
            flash_attention(*inputs, mask=mask, is_causal=True, block_size=16).sum().backward()
        largest.append(seen.size)
    assert largest[1] == 4 * largest[0] == 8 * 2 * 4 * 256 * 4  # the queries themselves


def test_hidden_tiles_are_not_computed(monkeypatch: pytest.MonkeyPatch):
    from lit_modules.layers import flash_attention as module

    tiles = []
    original = module._scores
    monkeypatch.setattr(module, "_scores", lambda *a: tiles.append(a[-3:-1]) or original(*a))
    inputs = [x.detach() for x in heads(8, 8)]
    flash_attention(*inputs, block_size=2)
    assert len(tiles) == 16
    tiles.clear()
    flash_attention(*inputs, is_causal=True, block_size=2)
    assert len(tiles) == 4 + 3 + 2 + 1
    tiles.clear()
    flash_attention(*inputs, is_causal=True, window=2, block_size=2)
    assert len(tiles) < 4 + 3 + 2 + 1


def test_half_precision_saves_its_log_sum_exp_in_fp32():
    inputs = heads(6, 6, dtype=torch.bfloat16)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        output = flash_attention(*inputs)
    assert output.dtype == torch.bfloat16
    assert [x.dtype for x in saved if x.dim() == 3] == [torch.float32]


def test_a_block_has_a_size():
    with pytest.raises(ValueError, match="block_size is 0"):
        flash_attention(*heads(2, 2), block_size=0)
